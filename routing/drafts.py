"""A draft, before it has any effect, and what a check may know about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.routing.steps import Step

if TYPE_CHECKING:
    from agentmesh.prompt import Entry, Segment

SideEffect = Literal["none", "local", "external"]
EFFECTS: tuple[SideEffect, ...] = ("none", "local", "external")
"""Side effects, the mildest first."""
TEXT = "text"
"""The key of a bar for drafts that call nothing."""


@dataclass(frozen=True, slots=True)
class DraftCall:
    """A tool call that a draft asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A model's answer that nobody has acted on yet.

    `logprob` is the mean log-probability of its tokens, where the vendor gives it.
    """

    text: str
    calls: tuple[DraftCall, ...] = ()
    stop: Literal["end", "tools", "length", "refusal", "unknown"] = "end"
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that this turn has made already, and what came of it; `error` if it failed."""

    name: str
    arguments: str
    result: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What a check knows of a tool: its JSON schema, its side effect, whether it is strict."""

    parameters: dict[str, Any]
    side_effect: SideEffect = "none"
    strict: bool = True
    description: str = ""


class Ask(Protocol):
    """Asks a model about the step at hand: its conversation, then `instruction`.

    The call is paid, and the ledger has it under `purpose`. Without `tier` the one that costs
    least is asked. A call that fails is an empty answer.
    """

    def __call__(self, instruction: str, /, *, purpose: str, tier: str = "") -> str:
        """Return what the model says."""
        ...


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a draft is judged against; `seen` is all text that the model was shown.

    `past` are this turn's calls so far, oldest first. `top` says that no tier is above. `ask` and
    `again` (one more draft of the same tier on the same prompt; None if it fails) cost a model
    call each, with the purposes that they are given and `sample`; both are None where no model can
    be asked.
    """

    tools: Mapping[str, ToolFacts] = field(default_factory=dict)
    seen: str = ""
    tier: str = ""
    step: Step = field(default_factory=lambda: Step(""))
    past: Sequence[PastCall] = ()
    top: bool = False
    ask: Ask | None = None
    again: Callable[[], Draft | None] | None = None


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


def call_key(call: DraftCall | PastCall) -> tuple[str, str]:
    """Return what makes two calls the same: the order of their arguments does not."""
    try:
        return call.name, canonical.dumps(json.loads(call.arguments or "{}"))
    except (ValueError, RecursionError):
        return call.name, call.arguments


def checked_bars(
    bars: Mapping[str, float], defaults: Mapping[str, float], *, lower_is_stricter: bool = False
) -> dict[str, float]:
    """Return the bars by kind of draft and by tool; `bars` go before `defaults`.

    Raises:
        ConfigError: one is no probability, or a graver side effect is given the milder bar.
    """
    for name, bar in bars.items():
        if not isinstance(bar, int | float) or not 0 <= bar <= 1:
            raise ConfigError(f"bars[{name!r}]={bar!r}", hint="give a probability from 0 to 1")
    given = [effect for effect in EFFECTS if effect in bars]
    for mild, grave in pairwise(given):
        if bars[mild] != bars[grave] and (bars[mild] < bars[grave]) == lower_is_stricter:
            raise ConfigError(
                f"contradictory bars: {bars[grave]!r} for {grave!r} is milder than {bars[mild]!r} "
                f"for {mild!r}",
                hint="hold the graver side effect to the stricter bar",
            )
    return {**defaults, **bars}


def bars_of(draft: Draft, tools: Mapping[str, ToolFacts], bars: Mapping[str, float]) -> list[float]:
    """Return the bar of each of a draft's calls: its tool's, else that of its side effect."""
    if not draft.calls:
        return [bars[TEXT]]
    effects = {name: facts.side_effect for name, facts in tools.items()}
    return [bars.get(c.name, bars[effects.get(c.name, "external")]) for c in draft.calls]


def worst_effect(draft: Draft, tools: Mapping[str, ToolFacts]) -> SideEffect:
    """Return the gravest side effect of a draft's calls; `none` if it makes none."""
    found = [tools[call.name].side_effect for call in draft.calls if call.name in tools]
    return max(found, key=EFFECTS.index, default="none")


def drafted(blocks: Iterable[Mapping[str, Any]]) -> Draft:
    """Return the draft that the log's or the ledger's blocks hold."""
    blocks = list(blocks)
    calls = [
        DraftCall(str(block["id"]), block["name"], block["arguments"])
        for block in blocks
        if block.get("type") == "call"
    ]
    text = "\n".join(block["text"] for block in blocks if block.get("type") == "text")
    return Draft(text, tuple(calls), "tools" if calls else "end")


def shown_text(segments: Iterable[Segment], entries: Iterable[Entry], tail: str = "") -> str:
    """Return all text that a prompt shows: what a draft's values may be copied from."""
    frozen = [segment.text for segment in segments]
    log = [str(block.get("text", "")) for entry in entries for block in entry.blocks]
    return "\n".join([*frozen, *log, tail])


def past_calls(blocks: Iterable[Mapping[str, Any]]) -> tuple[PastCall, ...]:
    """Return the calls with their results that the log's blocks of a turn tell of, oldest first."""
    asked: dict[str, Mapping[str, Any]] = {}
    made = []
    for block in blocks:
        if block.get("type") == "call":
            asked[block["id"]] = block
        elif block.get("type") == "result" and (call := asked.pop(block["id"], None)):
            failed = bool(block.get("error"))
            made.append(PastCall(call["name"], call["arguments"], block["text"], failed))
    return tuple(made)
