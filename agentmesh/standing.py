"""Where a session stands with its router: what it has cost beside each tier alone, what failed.

The ledger is the truth. Every accepted draft's row carries the sums up to it, so a turn begins
with one row, in whichever process; the drafts that failed in an epoch are counted from their rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, func, select

from agentmesh import canonical
from agentmesh.economy.semantics import semantics
from agentmesh.memory.tables import calls, sessions
from agentmesh.routing import Guard, alone_usd, may_lose, stake_usd
from agentmesh.sessions import Session

if TYPE_CHECKING:
    from agentmesh.memory import Turn
    from agentmesh.parts import Parts
    from agentmesh.plans import Outcome
    from agentmesh.routing import Failure, Outlook, TierFacts

KEY = "guard"
"""Under which a call's decision keeps the guard's sums, in micro-dollars."""

_DAY_S = 86_400.0
_LATELY = 256
"""Calls of a day among which an agent's latest sessions are looked for."""


@dataclass(frozen=True)
class Expected:
    """What the router knew of a step when it chose."""

    facts: Sequence[TierFacts]
    prompt_tokens: int
    new_tokens: int
    outlook: Outlook

    @property
    def asked(self) -> tuple[int, int, Sequence[TierFacts], Outlook]:
        """What the choice's functions take."""
        return self.prompt_tokens, self.new_tokens, self.facts, self.outlook


@dataclass
class Standing:
    """One session's sums; `failed` counts an epoch's refused drafts by kind of step and tier.

    `saved` are the dollars that the agent's other sessions cost less than its top tier alone.
    """

    guard: Guard | None
    failed: Counter[tuple[str, str]]
    session: Session
    tokens: int = 0
    at: float = 0.0
    saved: float = 0.0
    expected: Expected | None = None
    lost: int = 0
    lost_on_top: int = 0

    def floor(self, kind: str, tiers: Sequence[str], most: int) -> int:
        """Return the lowest rank at which a kind of step has not failed too often."""
        failed = [rank for rank, name in enumerate(tiers) if self.failed[kind, name] >= most]
        return min(max(failed, default=-1) + 1, len(tiers) - 1)

    def expects(self, expected: Expected, stake: float | None) -> None:
        """Keep what is known of a step that begins; the first one of all sets the stake."""
        self.expected, guard = expected, self.guard
        if guard is not None and not guard.paid:
            guard.stake_usd = stake_usd(*expected.asked, limit=guard.limit, saved=self.saved)
            guard.stake_usd = guard.stake_usd if stake is None else stake

    def may_lose(self, tier: TierFacts) -> bool:
        """Return whether a draft of a tier may fail within the guard's bound."""
        if self.guard is None or self.expected is None:
            return True
        length, new, facts, outlook = self.expected.asked
        lost = (self.lost - self.lost_on_top) / 1e6
        return may_lose(tier, length, new, facts, self.guard, outlook, lost=lost)


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
        standing.session.drafted(failure.tier, passed=False)
        standing.lost += cost
        if failure.tier == self._parts.tiers[-1].name:
            standing.lost_on_top += cost

    def aside(self, outcome: Outcome, cost: int) -> None:
        """Count what the top tier alone would not have needed: a router's or a check's own call."""
        job = outcome.job
        judging = job.purpose in ("judge", "sample") and (
            job.state.get("tier") != self._parts.tiers[-1].name
        )
        standing = self._held.get(job.turn)
        if standing is not None and (judging or job.purpose == "route"):
            standing.lost += cost

    def new_tokens(self, standing: Standing, length: int) -> int:
        """Return how much of a prompt a tier would see for the first time that made every step."""
        ttl_s = semantics(self._parts.tiers[-1].model_name).ttl_s
        old = standing.tokens if self._parts.memory.clock() - standing.at < ttl_s else 0
        return length if old > length else length - old

    def accepted(self, outcome: Outcome, cost: int, output: int) -> Outcome:
        """Count a step, and return the outcome with the sums that its row is to carry."""
        job, standing = outcome.job, self._held.get(outcome.job.turn)
        if standing is None or standing.expected is None:
            return outcome
        standing.session.drafted(job.tier.name, passed=True)
        guard, expected = standing.guard, standing.expected
        if guard is None:
            return outcome
        length, new, facts, outlook = expected.asked
        exact = replace(outlook, output_tokens=float(output))
        alone = alone_usd(length, new, facts, exact, had=guard.had)
        on_top = job.tier.name == self._parts.tiers[-1].name
        guard.record(
            (standing.lost + cost) / 1e6,
            alone + standing.lost_on_top / 1e6,
            had=length if on_top else facts[-1].warm,
        )
        standing.tokens, standing.at = length, self._parts.memory.clock()
        standing.lost = standing.lost_on_top = 0
        sums = {
            "paid": round(guard.paid * 1e6),
            "alone": round(guard.alone * 1e6),
            "stake": round(guard.stake_usd * 1e6),
            "tokens": length,
            "had": guard.had,
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
        lower = [tier.name for tier in self._parts.tiers[:-1]]
        since = self._parts.memory.clock() - semantics(self._parts.tiers[-1].model_name).ttl_s
        session = Session.load(connection, turn, lower, since)
        limit = self._policy.guard
        if limit is None or not lower:
            return Standing(None, failed, session)
        last = connection.execute(
            select(calls.c.decision, calls.c.started_at)
            .where(calls.c.session_id == turn.view.id, calls.c.decision.contains(f'"{KEY}":'))
            .order_by(calls.c.turn.desc(), calls.c.id.desc())
            .limit(1)
        ).first()
        sums: dict[str, Any] = canonical.loads(last.decision)[KEY] if last else {}
        if last is None or "had" not in sums:
            saved = self._saved(connection)
            return Standing(Guard(limit=limit), failed, session, saved=saved)
        money = {
            name: sums[key] / 1e6
            for name, key in (("paid", "paid"), ("alone", "alone"), ("stake_usd", "stake"))
        }
        guard = Guard(limit=limit, had=sums["had"], **money)
        return Standing(guard, failed, session, sums["tokens"], last.started_at)

    def _saved(self, connection: Connection) -> float:
        """Return the dollars that the agent's sessions saved within a day, below 0 if they lost."""
        rows = connection.execute(
            select(calls.c.session_id, calls.c.decision)
            .where(
                calls.c.tenant == self._parts.memory.tenant,
                calls.c.started_at >= self._parts.memory.clock() - _DAY_S,
                calls.c.agent == self._parts.name,
                calls.c.decision.contains(f'"{KEY}":'),
            )
            .order_by(calls.c.started_at.desc(), calls.c.id.desc())
            .limit(_LATELY)
        ).all()
        newest = {row.session_id: canonical.loads(row.decision)[KEY] for row in reversed(rows)}
        told = [sums for sums in newest.values() if "had" in sums]
        return sum(float(sums["alone"] - sums["paid"]) for sums in told) / 1e6


__all__ = ["KEY", "Expected", "Standing", "Standings"]
