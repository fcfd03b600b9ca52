"""A plan of requests: what to send, how long to wait; carried out with or without blocking.

Whoever knows the order writes it once, as a generator that sends nothing itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from agentmesh.attempts import Attempt
from agentmesh.errors import TierError
from agentmesh.memory import Turn
from agentmesh.memory.views import View
from agentmesh.prompt import Prompt
from agentmesh.routing.retry import overrun
from agentmesh.state import State
from agentmesh.tiers import Tier


class Send(NamedTuple):
    """A request to make now, and the seconds that it may take."""

    attempt: Attempt
    config: RunnableConfig
    seconds: float


class Wait(NamedTuple):
    """Seconds to let pass."""

    seconds: float


@dataclass(frozen=True)
class Job:
    """What is to be asked of a tier, for which turn and why.

    `view` narrows what it is shown of the log; a `prompt` shows it nothing of that.
    """

    state: State
    turn: Turn
    config: RunnableConfig
    tier: Tier
    tail: str
    purpose: str = "act"
    view: View | None = None
    prompt: Prompt | None = None

    @property
    def labelled(self) -> RunnableConfig:
        """The configuration, with what a tracer wants to know of the call."""
        about = {"agentmesh_purpose": self.purpose, "agentmesh_tier": self.tier.name}
        return {**self.config, "metadata": {**self.config.get("metadata", {}), **about}}


class Outcome(NamedTuple):
    """What came of a job: an answer with the attempt that got it, or why there is none.

    The job is the one asked for, or the same on a cheaper tier, where the budget decided so.
    """

    job: Job
    attempt: Attempt | None = None
    message: AIMessage | None = None
    error: TierError | None = None


Plan = Generator[Send | Wait, AIMessage | TierError | None, Outcome]
Requests = Generator[Send | Wait, AIMessage | TierError | None, tuple[Attempt, AIMessage]]


def drive(plan: Plan) -> Outcome:
    """Carry a plan out: send what it says, wait as long as it says."""
    said: AIMessage | TierError | None = None
    while True:
        try:
            order = plan.send(said)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        said = None
        if isinstance(order, Wait):
            time.sleep(order.seconds)
            continue
        try:
            said = order.attempt.invoke(order.config, order.seconds)
        except TierError as error:
            said = error


async def adrive(plan: Plan) -> Outcome:
    """Do as `drive`, without blocking the event loop; a request that overruns is cancelled."""
    said: AIMessage | TierError | None = None
    while True:
        try:
            order = plan.send(said)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        said = None
        if isinstance(order, Wait):
            await asyncio.sleep(order.seconds)
            continue
        try:
            async with asyncio.timeout(order.seconds):
                said = await order.attempt.ainvoke(order.config, order.seconds)
        except TierError as error:
            said = error
        except TimeoutError:
            said = overrun(order.seconds)
