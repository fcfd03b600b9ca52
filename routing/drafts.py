"""A draft, before it has any effect, and what a check may know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from agentmesh.routing.steps import Step

SideEffect = Literal["none", "local", "external"]


@dataclass(frozen=True, slots=True)
class DraftCall:
    """A tool call that a draft asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A model's answer that nobody has acted on yet."""

    text: str
    calls: tuple[DraftCall, ...] = ()
    stop: Literal["end", "tools", "length", "refusal", "unknown"] = "end"


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What a check knows of a tool: its JSON schema, its side effect, whether it is strict."""

    parameters: dict[str, Any]
    side_effect: SideEffect = "none"
    strict: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a draft is judged against; `seen` is all text that the model was shown."""

    tools: Mapping[str, ToolFacts] = field(default_factory=dict)
    seen: str = ""
    tier: str = ""
    step: Step = field(default_factory=lambda: Step(""))


@runtime_checkable
class Check(Protocol):
    """Judges a draft: the reason of its failure, or None. A plain function will do.

    Example:
        def no_promises(draft: Draft, context: CheckContext) -> str | None:
            return "promises a refund" if "guaranteed refund" in draft.text else None
    """

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        """Return why `draft` may not be used, or None."""
        ...


def check_name(check: Check) -> str:
    """Return the name that a check's failures are recorded under."""
    name = getattr(check, "name", None) or getattr(check, "__name__", None)
    return str(name or type(check).__name__)
