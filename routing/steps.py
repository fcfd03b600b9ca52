"""What the router looks at, and what it answers: plain values, no model, no text from tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.routing.choice import Outlook

Kind = Literal[
    "simple", "complex", "creative", "reasoning", "formatting", "tool", "spam", "off-topic"
]
"""The kinds of request that the shipped classifier tells apart; abuse counts as spam."""

KINDS: tuple[Kind, ...] = (
    "simple",
    "complex",
    "creative",
    "reasoning",
    "formatting",
    "tool",
    "spam",
    "off-topic",
)

Stage = Literal["rules", "classifier", "model", "escalation", "pinned", "guard", "fallback"]
"""Who decided: `pinned` by what failed before, `guard` by what the session has cost, `fallback`
that every stage failed and the capable tier was taken."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A draft or a call of `tier` that did not pass; `check` names what refused it."""

    check: str
    reason: str
    tier: str


@dataclass(frozen=True, slots=True)
class Step:
    """All that a router may look at: `text` holds the customer's words of this turn.

    A tool's output is never in it, so that nobody can steer the choice through a web page.
    `outlook` is what is expected of this session's rest, where it is known better than by default.
    """

    text: str
    turn: int = 0
    step: int = 0
    after: Literal["user", "tool"] = "user"
    tools: tuple[str, ...] = ()
    prompt_tokens: int = 0
    failures: tuple[Failure, ...] = ()
    user: str = ""
    session: str = ""
    outlook: Outlook | None = None


@dataclass(frozen=True, slots=True)
class TierPrices:
    """A tier's prices for this prompt in dollars per million tokens, effective at its length."""

    input: float
    output: float
    read: float
    write: float

    def __post_init__(self) -> None:
        for name in ("input", "output", "read", "write"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"price {name}={getattr(self, name)!r} is not a price",
                    hint="give dollars per million tokens, 0 or more",
                )


@dataclass(frozen=True, slots=True)
class TierFacts:
    """What the router knows of a tier; tiers are given cheapest first, `rank` 0 is the cheapest.

    `warm` tokens of the step's prefix are still in this tier's cache. `success` is a measured
    probability that the tier's draft is right, where one is known for this step; without it the
    router's own estimate counts. A tier that is not `available` (its circuit is open, it is
    over its rate limit, too slow) is left out.
    """

    name: str
    model: str
    rank: int
    prices: TierPrices | None = None
    warm: int = 0
    success: float | None = None
    available: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a message may enter: `kind` is what it was taken for, `probability` how surely."""

    allowed: bool
    kind: str
    probability: float
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier for a step, and why in words.

    `probabilities` are those of the request kinds, `chances` that each tier is enough, `costs` the
    dollars that the rest of the session is expected to cost by the tier that it goes on with;
    `version` names the stored router that decided, if one did.
    """

    tier: str
    stage: Stage
    reason: str
    kind: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    chances: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    version: str = ""

    def record(self) -> dict[str, Any]:
        """Return the decision as the ledger keeps it: what is empty is left out."""
        told = {"stage": self.stage, "reason": self.reason, "kind": self.kind}
        measured = {
            "probabilities": _rounded(self.probabilities, 4),
            "chances": _rounded(self.chances, 4),
            "costs": _rounded(self.costs, 8),
        }
        named = {"router": self.version} if self.version else {}
        return {**told, **{name: rows for name, rows in measured.items() if rows}, **named}


def _rounded(rows: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in rows.items()}
