"""The state machine's state: the current turn only, in plain JSON beside LangGraph's messages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from agentmesh.routing import Failure


class State(TypedDict, total=False):
    """What the nodes hand on. `messages` is the public key, as in any LangGraph agent.

    `session`, `user`, `turn` and `fence` name the turn that is open in the journal, which is the
    truth; `step` counts accepted drafts; `tier` and `decision` are the route of the next draft;
    `failures` are those of this step, `status` is empty while the turn goes on.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    session: str
    user: str
    turn: int
    fence: int
    step: int
    tier: str
    decision: dict[str, Any]
    failures: list[dict[str, str]]
    status: str
    resume: bool


def failures_of(state: State) -> tuple[Failure, ...]:
    """Return the failures of the step at hand."""
    return tuple(Failure(**failure) for failure in state.get("failures", []))


def with_failure(state: State, failure: Failure) -> list[dict[str, str]]:
    """Return the step's failures with one more."""
    return [*state.get("failures", []), asdict(failure)]
