"""An attempt: a prompt rendered for one model, with all that is known before it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentmesh.budgets import Account
from agentmesh.diagnostics import Diagnostics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Outline
from agentmesh.fanout import Cold, Lead
from agentmesh.forecast import Forecast
from agentmesh.memory import Turn
from agentmesh.memory.views import View
from agentmesh.parts import Parts
from agentmesh.prompt import Prompt
from agentmesh.providers import to_messages, to_tools
from agentmesh.providers.foreign import failure_of
from agentmesh.seats import asking
from agentmesh.tiers import Tier


class Ready(NamedTuple):
    """A prompt that is rendered for a model, what of it a cache can hold, and what it hides."""

    tier: Tier
    prompt: Prompt
    seen: Outline
    view: View | None


@dataclass(frozen=True)
class Attempt:
    """One request about to be made: everything about it that is known beforehand."""

    ready: Ready
    sha: str
    messages: list[BaseMessage]
    model: Runnable[Any, Any]
    planned: Usage
    started_at: float
    clock: float

    @property
    def tier(self) -> Tier:
        """The tier, with the one of its models that is asked."""
        return self.ready.tier

    def invoke(self, config: RunnableConfig, seconds: float) -> AIMessage:
        """Return the model's answer; any failure is a `TierError`."""
        try:
            return _answer(self.model.invoke(self.messages, config, **self._bounds(seconds)))
        except Exception as error:
            raise failure_of(error, self.tier.model_name) from error

    async def ainvoke(self, config: RunnableConfig, seconds: float) -> AIMessage:
        """Do as `invoke`, without blocking the event loop."""
        try:
            return _answer(await self.model.ainvoke(self.messages, config, **self._bounds(seconds)))
        except Exception as error:
            raise failure_of(error, self.tier.model_name) from error

    def _bounds(self, seconds: float) -> dict[str, float]:
        return {"timeout_s": min(seconds, self.tier.timeout_s)} if self.tier.ours else {}


class Attempts:
    """Prepares the requests of one agent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bound: dict[tuple[Any, ...], Runnable[Any, Any]] = {}
        self.forecast = Forecast(parts.memory)
        self.diagnostics = Diagnostics()

    def ready(
        self, turn: Turn, tier: Tier, tail: str, step: int, view: View | None = None
    ) -> Ready:
        """Render the prompt of a tier's model, narrowed to `view` for a compact handoff."""
        turn.refresh(step)
        view = view or tier.view
        cache = tier.cache and tier.ours
        prompt = turn.prompt(tier.model_name, tail=tail, cache=cache, scope=view)
        return Ready(tier, prompt, self.forecast.seen(tier.model_name, turn, prompt), view)

    def planned(self, ready: Ready) -> Usage:
        """Return what a request is expected to be billed for if it is made now."""
        now = self._parts.memory.clock()
        return self.forecast.usage(ready.tier.model_name, ready.seen, ready.prompt, now)

    def cold(self, ready: Ready) -> Cold:
        """Return what tells whether a draft's shared prefix is still to be written."""
        tier = ready.tier
        if not (tier.ours and tier.cache):
            return lambda: None
        return lambda: self.forecast.cold(tier.model_name, ready.seen, self._parts.memory.clock())

    def attempt(self, turn: Turn, ready: Ready, account: Account, lead: Lead | None) -> Attempt:
        """Return a request that may be made now; `BudgetError` if it may not."""
        tier, prompt = ready.tier, ready.prompt
        planned = self.planned(ready)
        account.hold(tier, planned)
        model = self.diagnostics.asking(tier, turn.session, self._model(tier, prompt))
        model = asking(tier, turn, model)
        return Attempt(
            ready=ready,
            sha=turn.sha(prompt, ready.view),
            messages=to_messages(prompt, tier.audience),
            model=model if lead is None else model.bind(stream=True),
            planned=planned,
            started_at=self._parts.memory.clock(),
            clock=time.perf_counter(),
        )

    def begun(self, attempt: Attempt) -> None:
        """Note that an answer has begun: what the request wrote can be read from now on."""
        model = attempt.tier.model_name
        self.forecast.begun(model, attempt.ready.seen, attempt.started_at)

    def config(self, attempt: Attempt, config: RunnableConfig, lead: Lead | None) -> RunnableConfig:
        """Return a request's configuration; one that leads others tells when its answer begins."""
        if lead is None:
            return config

        def begun() -> None:
            self.begun(attempt)
            lead.end()

        return merge_configs(config, {"callbacks": [_FirstToken(begun)]})

    def _model(self, tier: Tier, prompt: Prompt) -> Runnable[Any, Any]:
        mark = prompt.marks.segments.get("tools")
        withheld = self._parts.toolset.withheld(self._parts.name, tier.name) if tier.ours else ()
        key = (tier.name, tier.model_name, prompt.tools, mark, withheld)
        if key not in self._bound:
            tools = to_tools(prompt, marks=tier.ours)
            bound = tier.chat.bind_tools(tools) if tools else tier.chat
            self._bound[key] = bound.bind(withheld=withheld) if withheld else bound
        return self._bound[key]


class _FirstToken(BaseCallbackHandler):
    """Tells, once, that an answer has begun."""

    run_inline = True

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun: Callable[[], None] | None = begun

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()


def _answer(message: Any) -> AIMessage:
    if not isinstance(message, AIMessage):
        raise TypeError(f"a chat model answered with {type(message).__name__}, not an AIMessage")
    return message
