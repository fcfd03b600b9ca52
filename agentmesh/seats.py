"""The students of an agent: who serves a turn, who answers beside it, and how it went.

A tier whose model is `student:NAME` is a seat that the register in the agent's memory fills. What
the nodes of the graph do about it is here; without such a tier, nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentmesh.economy.prices import Price
from agentmesh.errors import ConfigError
from agentmesh.tiers import STUDENT, Tier

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from agentmesh.distill.seat import Seat
    from agentmesh.memory import Memory, Turn
    from agentmesh.plans import Outcome
    from agentmesh.routing import Failure, TierFacts

OPTIONS = ("base", "canary", "evidence", "shadow")
"""What `extra` of a student's tier may hold."""

_OPEN_TURNS = 1_000


@dataclass(slots=True)
class _Run:
    """A turn in which a version was asked: whether it drafted, always, and all of it was good."""

    version: int
    drafted: bool = False
    silent: bool = False
    good: bool = True


class Seats:
    """The seats of one agent, by tier."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self._seats = seats_of(tiers)
        self._runs: dict[tuple[str, int, str], _Run] = {}

    def facts(self, turn: Turn, facts: TierFacts) -> TierFacts:
        """Return what the router knows of a tier, with the register's belief where it is a seat."""
        seat = self._seats.get(facts.name)
        if seat is None:
            return facts
        version = seat.serving(turn.session, turn.number)
        if version is None:
            return replace(facts, available=False)
        return replace(facts, success=version.belief)

    def judged(self, outcome: Outcome, failure: Failure | None) -> Outcome:
        """Keep how a version's draft went, and return the outcome with what the ledger is told."""
        job, message = outcome.job, outcome.message
        served = message.response_metadata.get("student") if message is not None else None
        if job.tier.name not in self._seats or not served:
            return outcome
        while len(self._runs) >= _OPEN_TURNS:
            self._runs.pop(next(iter(self._runs)))
        key = (job.turn.session, job.turn.number, job.tier.name)
        run = self._runs.setdefault(key, _Run(served["version"]))
        if served.get("abstained"):
            run.silent = True
        else:
            run.drafted, run.good = True, run.good and failure is None
        decision = {**job.state["decision"], "student": served}
        return outcome._replace(job=replace(job, state={**job.state, "decision": decision}))

    def accepted(self, outcome: Outcome) -> None:
        """Let the students in the shadow answer too what another tier has answered."""
        job, message = outcome.job, outcome.message
        for name, seat in self._seats.items():
            shadow = seat.shadow() if name != job.tier.name else None
            if shadow is not None and message is not None:
                from agentmesh.distill.serve import chat_messages, chat_tools
                from agentmesh.providers import to_messages, to_tools

                model = f"{STUDENT}:{seat.name}"
                prompt = job.turn.prompt(model, tail=job.tail, cache=False)
                seen = chat_messages(to_messages(prompt, f"langchain:{model}"))
                shadow.offer(seen, chat_tools(to_tools(prompt)), chat_messages([message])[0])

    def ended(self, turn: Turn, status: str) -> None:
        """Add a finished turn to the evidence on the versions that drafted in it."""
        failed = {
            block["id"]
            for record in turn.records
            if record.kind == "tool"
            for block in record.entry.blocks
            if block.get("error")
        }
        for name, seat in self._seats.items():
            run = self._runs.pop((turn.session, turn.number, name), None)
            if run is None:
                continue
            seat.heard(run.version, served=run.good and not run.silent)
            if run.drafted and seat.evidence == "turns":
                good = run.good and status == "done" and not failed
                seat.observe(run.version, float(good))


def seats_of(tiers: Sequence[Tier]) -> dict[str, Seat]:
    """Return the seats among tiers, by the tier's name."""
    found = {tier.name: getattr(tier.model, "seat", None) for tier in tiers}
    return {name: seat for name, seat in found.items() if seat is not None}


def close_seats(tiers: Sequence[Tier]) -> None:
    """Finish what waits for the students in the shadow."""
    for seat in seats_of(tiers).values():
        seat.close()


def asking(tier: Tier, turn: Turn, model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a tier's model, told whose turn it is where the tier is a seat."""
    if getattr(tier.model, "seat", None) is None:
        return model
    return model.bind(session=turn.session, turn=turn.number)


def seated(tiers: Sequence[Tier], memory: Memory) -> tuple[Tier, ...]:
    """Return the tiers with a seat in place of each model `student:NAME`."""
    return tuple(_seated(tier, memory) for tier in tiers)


def _seated(tier: Tier, memory: Memory) -> Tier:
    if not isinstance(tier.model, str) or not tier.model.startswith(f"{STUDENT}:"):
        return tier
    from agentmesh.distill.seat import Seat, SeatModel

    if strange := sorted(set(tier.extra) - set(OPTIONS)):
        raise ConfigError(
            f"tier {tier.name!r}: a student has no option {strange[0]!r}",
            hint=f"extra={{...}} takes {', '.join(OPTIONS)}",
        )
    name = tier.model.partition(":")[2]
    model = SeatModel(seat=Seat(memory, name, **tier.extra), name=name)
    return replace(tier, model=model, price=tier.price or Price(0, 0), extra={})
