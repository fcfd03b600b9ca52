"""Where a session stands with its router: what it has cost beside each tier alone, what failed.

The ledger is the truth. Every accepted draft's row carries the sums up to it, so a turn begins
with one row, in whichever process; the drafts that failed in an epoch are counted from their rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, func, select

from agentmesh import canonical
from agentmesh.economy.semantics import semantics
from agentmesh.memory.tables import calls, sessions
from agentmesh.routing import Guard
from agentmesh.routing.choice import alone_costs

if TYPE_CHECKING:
    from agentmesh.memory import Turn
    from agentmesh.parts import Parts
    from agentmesh.plans import Outcome
    from agentmesh.routing import Failure, TierFacts

KEY = "guard"
"""Under which a call's decision keeps the session's sums, in micro-dollars."""

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Expected:
    """What the router knew of a step when it chose."""

    facts: Sequence[TierFacts]
    chances: Mapping[str, float]
    prompt_tokens: int


@dataclass
class Standing:
    """One session's sums; `failed` counts an epoch's refused drafts by kind of step and tier."""

    guard: Guard | None
    failed: Counter[tuple[str, str]]
    tokens: int = 0
    at: float = 0.0
    expected: Expected | None = None
    lost: int = 0
    refused: set[str] = field(default_factory=set)

    def floor(self, kind: str, tiers: Sequence[str], most: int) -> int:
        """Return the lowest rank at which a kind of step has not failed too often."""
        failed = [rank for rank, name in enumerate(tiers) if self.failed[kind, name] >= most]
        return min(max(failed, default=-1) + 1, len(tiers) - 1)


class Standings:
    """The standing of every session that has an open turn."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._policy = parts.router.policy
        self._held: WeakKeyDictionary[Turn, Standing] = WeakKeyDictionary()

    def of(self, turn: Turn) -> Standing:
        """Return a turn's standing, read from the ledger at its first step."""
        if turn not in self._held:
            self._held[turn] = self._parts.memory.database.read(lambda c: self._load(c, turn))
        return self._held[turn]

    def refused(self, outcome: Outcome, failure: Failure, cost: int) -> None:
        """Count a draft that a check refused, and what it cost."""
        if len(self._parts.tiers) == 1:
            return
        standing = self.of(outcome.job.turn)
        standing.failed[str(outcome.job.state["decision"].get("kind", "")), failure.tier] += 1
        standing.refused.add(failure.tier)
        standing.lost += cost

    def accepted(self, outcome: Outcome, cost: int, output: int) -> Outcome:
        """Count a step, and return the outcome with the sums that its row is to carry."""
        job, standing = outcome.job, self._held.get(outcome.job.turn)
        guard = standing.guard if standing is not None else None
        expected = standing.expected if standing is not None else None
        if standing is None or guard is None or expected is None:
            return outcome
        now = self._parts.memory.clock()
        ttl_s = semantics(self._parts.tiers[-1].model_name).ttl_s
        old = standing.tokens if now - standing.at < ttl_s else 0
        length = max(expected.prompt_tokens, 1)
        alone = alone_costs(
            length,
            length if old > length else length - old,
            expected.facts,
            {**expected.chances, **dict.fromkeys(standing.refused, 0.0), job.tier.name: 1.0},
            replace(self._parts.router.outlook, output_tokens=float(output)),
        )
        guard.record((standing.lost + cost) / 1e6, alone)
        standing.tokens, standing.at, standing.lost = length, now, 0
        standing.refused.clear()
        sums = {
            "paid": round(guard.paid * 1e6),
            "alone": {name: round(usd * 1e6) for name, usd in guard.alone.items()},
            "tokens": length,
        }
        decision = {**job.state["decision"], KEY: sums}
        return outcome._replace(job=replace(job, state={**job.state, "decision": decision}))

    def escalations(self, user: str) -> int:
        """Return how often a user's steps were taken up within a day."""
        since = self._parts.memory.clock() - _DAY_S
        steps = (
            select(calls.c.session_id, calls.c.turn, calls.c.step)
            .join(sessions, sessions.c.id == calls.c.session_id)
            .where(
                calls.c.tenant == self._parts.memory.tenant,
                calls.c.started_at >= since,
                calls.c.agent == self._parts.name,
                calls.c.purpose == "act",
                sessions.c.user == user,
                calls.c.decision.contains('"stage":"escalation"'),
            )
            .distinct()
        )
        query = select(func.count()).select_from(steps.subquery())
        return int(self._parts.memory.database.read(lambda c: c.execute(query).scalar_one()))

    def _load(self, connection: Connection, turn: Turn) -> Standing:
        failed = Counter[tuple[str, str]]()
        refused = select(calls.c.tier, calls.c.decision).where(
            calls.c.session_id == turn.view.id,
            calls.c.epoch == turn.epoch.number,
            calls.c.purpose == "act",
            calls.c.outcome.like("check:%"),
        )
        for row in connection.execute(refused):
            failed[str(canonical.loads(row.decision).get("kind", "")), row.tier] += 1
        limit = self._policy.guard
        if limit is None or len(self._parts.tiers) == 1:
            return Standing(None, failed)
        guard = Guard([tier.name for tier in self._parts.tiers], limit=limit)
        last = connection.execute(
            select(calls.c.decision, calls.c.started_at)
            .where(calls.c.session_id == turn.view.id, calls.c.decision.contains(f'"{KEY}":'))
            .order_by(calls.c.turn.desc(), calls.c.id.desc())
            .limit(1)
        ).first()
        sums: dict[str, Any] = canonical.loads(last.decision)[KEY] if last else {}
        if last is None or set(sums["alone"]) != set(guard.alone):
            return Standing(guard, failed)
        guard.record(sums["paid"] / 1e6, {n: micro / 1e6 for n, micro in sums["alone"].items()})
        return Standing(guard, failed, sums["tokens"], last.started_at)


__all__ = ["KEY", "Expected", "Standing", "Standings"]
