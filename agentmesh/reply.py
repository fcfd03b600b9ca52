"""What came of a turn: the answer, the road to it, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError

ASIDE = ("route", "sample", "judge")
"""Purposes of calls by which the router and the checks make up their minds: no steps."""

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage

    from agentmesh.memory import Call
    from agentmesh.parts import Parts


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens and money of a turn; `micro` is in micro-dollars, None where a price is unknown."""

    usage: Usage
    micro: int | None
    uncached_flagship: int | None

    @property
    def usd(self) -> float | None:
        """The cost in dollars."""
        return None if self.micro is None else self.micro / 1_000_000

    def __str__(self) -> str:
        return _dollars(self.micro)


@dataclass(frozen=True)
class Reply:
    """An agent's reply to one message.

    `blocked` names why the message was not answered (`spam`, ...); `interrupts` holds the
    questions that a person must answer with `agent.resume(...)` before the turn goes on.
    """

    text: str
    messages: tuple[AnyMessage, ...]
    session: str
    user: str
    turn: int
    blocked: str | None = None
    interrupts: tuple[Any, ...] = ()
    decision: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts | None = field(default=None, repr=False, compare=False)

    @cached_property
    def steps(self) -> list[Call]:
        """Every model call of the turn as the ledger has it, refused drafts included."""
        if self.parts is None:
            return []
        return self.parts.memory.ledger.calls(session=self.session, turn=self.turn)

    @cached_property
    def cost(self) -> Cost:
        """What the turn cost, and what its accepted drafts had cost on an uncached flagship."""
        usage, micro, flagship = Usage(), 0, 0
        unknown = flagship_unknown = False
        for call in self.steps:
            usage += call.usage
            unknown |= call.cost is None
            micro += call.cost or 0
            if call.outcome == "ok" and call.purpose not in ASIDE and self.parts is not None:
                plain = Usage(fresh=call.usage.input, output=call.usage.output)
                top = self.parts.prices.cost(self.parts.tiers[-1].model_name, plain)
                flagship_unknown |= top is None
                flagship += top or 0
        return Cost(usage, None if unknown else micro, None if flagship_unknown else flagship)

    def feedback(self, score: float | None = None, label: str = "", comment: str = "") -> None:
        """Say how good the reply was: it tells the ledger, and what may become training data.

        Args:
            score: from 0 (bad) to 1 (good).
            label: a word such as `solved`.
            comment: free text.
        """
        from agentmesh.distill import give

        if self.parts is None:
            raise InputError(
                "this reply belongs to no agent", hint="keep the one that invoke() gave"
            )
        give(
            self.parts.memory,
            session=self.session,
            turn=self.turn,
            score=score,
            label=label,
            comment=comment,
        )

    def summary(self) -> str:
        """Return the turn in one line: money, tiers, tokens, and the same on a plain flagship."""
        if self.blocked:
            return f"$0.0000  blocked: {self.blocked}"
        used = self.cost.usage
        steps = [call for call in self.steps if call.purpose not in ASIDE]
        tiers = Counter(call.tier for call in steps if call.outcome == "ok")
        refused = [call.outcome for call in steps if call.outcome != "ok"]
        road = ", ".join(f"{count} {tier}" for tier, count in tiers.items()) or "none"
        road += f", {len(refused)} refused ({', '.join(sorted(set(refused)))})" if refused else ""
        share = f" ({used.read / used.input:.0%} cached)" if used.input else ""
        return (
            f"{self.cost}  {sum(tiers.values())} steps: {road}  in {used.input:,}{share}"
            f"  out {used.output:,}  -> uncached flagship {_dollars(self.cost.uncached_flagship)}"
        )

    def __str__(self) -> str:
        return self.text


def _dollars(micro: int | None) -> str:
    return "$?" if micro is None else f"${micro / 1_000_000:.4f}"
