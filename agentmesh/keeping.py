"""What to do for sessions whose user is away, just before the cache forgets them.

Nothing, a call that keeps the cache warm, or a compaction that still reads it: whichever is
expected to cost least by how long users of this agent have stayed away so far. The reason stands
in the ledger beside the call that was made for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import Connection, select

from agentmesh import canonical
from agentmesh.act import Act
from agentmesh.economy.cost_model import Idle, Rates, before_cold
from agentmesh.economy.semantics import semantics
from agentmesh.errors import ConfigError
from agentmesh.learning import LEARNT, OWED, Learner, owed
from agentmesh.memory.render import parse_marks
from agentmesh.memory.tables import calls, entries, sessions
from agentmesh.rolling import Rolling, sees_log

if TYPE_CHECKING:
    from agentmesh.memory import Turn
    from agentmesh.parts import Parts
    from agentmesh.state import State
    from agentmesh.tiers import Tier

LEAD_S = 30.0
"""How long before a cache ends something is done about it."""

MOST_KEPT = 6
"""Keep-alive calls in a row for one session."""

KEEP_ALIVE = "The user is away. Answer with one word: waiting"
_PAUSES = 2_000
_HOUR_S = 3_600.0
_DAY_S = 24 * _HOUR_S
_LATEST = 200
"""Entries at a log's end in which a turn that is owed is looked for."""


class Action(NamedTuple):
    """What was done for a session while its user was away, and why."""

    session: str
    kind: Literal["keep", "compact", "learn"]
    reason: str


class Pauses(NamedTuple):
    """How long users stayed away before they came back, and those who never did."""

    back: Sequence[float] = ()
    gone: int = 0

    def chances(self, away: float, more: float) -> tuple[float, float]:
        """Return how likely one who is away this long comes back at all, and within `more`.

        One of each kind is counted on top: with nothing seen yet, both are open.
        """
        later = [pause for pause in self.back if pause > away]
        soon = sum(pause <= away + more for pause in later)
        total = len(later) + self.gone + 2
        return (len(later) + 1) / total, (soon + 0.5) / total


class _Cooling(NamedTuple):
    """A session whose cache is about to end."""

    session: str
    tier: str
    ttl_s: float
    away: float


class Keeping:
    """Acts for the idle sessions of one agent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._act = Act(parts)
        self._rolling = Rolling(parts, self._act)
        self._learner = Learner(parts, self._act)

    def run(self, now: float) -> list[Action]:
        """Learn what is owed; decide on every session that falls cold soon, and do what pays."""
        return [*self._learned(now), *self._kept(now)]

    def _learned(self, now: float) -> list[Action]:
        learning = self._parts.learning
        if learning is None or learning.when != "idle":
            return []
        names = self._parts.memory.database.read(lambda c: self._owing(c, now))
        return [action for name in names if (action := self._learn(name)) is not None]

    def _learn(self, session: str) -> Action | None:
        """Learn from a session's turns while nobody waits for it."""
        turn = self._parts.memory.maintain(session)
        if turn is None:
            return None
        try:
            marks = owed(turn)
            if not marks:
                return None
            reason = f"{len(marks)} answered turns were still to be learned from"
            tier = self._parts.tier(canonical.loads(marks[-1].body)["tier"])
            done = self._learner.settle(_idle_state(turn, tier, reason), turn, {})
            return Action(session, "learn", reason) if done else None
        finally:
            if turn.records[-1].kind != "end":
                turn.add("end", [], status="maintained")
            turn.flush("idle")

    def _owing(self, connection: Connection, now: float) -> list[str]:
        """Return the idle sessions whose latest turns are still to be learned from."""
        rows = connection.execute(
            select(sessions.c.name, entries.c.kind, entries.c.seq)
            .join(entries, entries.c.session_id == sessions.c.id)
            .where(
                sessions.c.tenant == self._parts.memory.tenant,
                sessions.c.agent == self._parts.name,
                sessions.c.state == "idle",
                sessions.c.updated_at > now - _DAY_S,
                entries.c.seq > sessions.c.head - _LATEST,
                entries.c.kind.in_((OWED, LEARNT)),
            )
            .order_by(sessions.c.id, entries.c.seq)
        )
        last = {row.name: row.kind for row in rows}
        return [name for name, kind in last.items() if kind == OWED]

    def _kept(self, now: float) -> list[Action]:
        read = self._parts.memory.database.read
        cooling = read(lambda c: self._cooling(c, now))
        if not cooling:
            return []
        pauses = read(lambda c: self._pauses(c, now))
        done = (self._decide(one, pauses) for one in cooling)
        return [action for action in done if action is not None]

    def _decide(self, one: _Cooling, pauses: Pauses) -> Action | None:
        tier = self._parts.tier(one.tier)
        turn = self._parts.memory.maintain(one.session)
        if turn is None:
            return None
        try:
            return self._done(turn, tier, one, pauses)
        finally:
            if turn.records[-1].kind != "end":
                turn.add("end", [], status="maintained")
            turn.flush("idle")

    def _done(self, turn: Turn, tier: Tier, one: _Cooling, pauses: Pauses) -> Action | None:
        policy = self._parts.compaction
        shown = turn.view.shown
        frozen = sum(tokens for name, tokens in turn.epoch.tokens if name != "digest")
        length = sum(tokens for _, tokens in turn.epoch.tokens) + sum(e.tokens for e in shown)
        try:
            rates = Rates.of(tier.model_name, self._parts.prices, tokens=length)
        except ConfigError:
            return None  # nobody knows what it would save
        base = policy.cut(shown) if policy and sees_log(tier) else None
        digest, low = 0, length
        if policy is not None and base is not None:
            kept = sum(entry.tokens for entry in shown if entry.seq > base)
            digest, low = policy.digest_tokens, frozen + policy.digest_tokens + kept
        back, soon = pauses.chances(one.away, one.ttl_s)
        best = before_cold(rates, length=length, low=low, digest=digest, back=back, back_soon=soon)
        reason = _reason(best, one, back, soon, length, low)
        state = _idle_state(turn, tier, reason)
        if best.action == "compact" and base is not None:
            made = self._rolling.compact(state, turn, {}, tier, base)
            return Action(one.session, "compact", reason) if made else None
        if best.action == "keep":
            said = self._act.side_call(state, turn, {}, tier=tier, purpose="keep", tail=KEEP_ALIVE)
            return Action(one.session, "keep", reason) if said else None
        return None

    def _cooling(self, connection: Connection, now: float) -> list[_Cooling]:
        """Return the idle sessions whose cache ends soon: few, by an index on the tenant."""
        rows = connection.execute(
            select(sessions.c.id, sessions.c.name, sessions.c.epoch).where(
                sessions.c.tenant == self._parts.memory.tenant,
                sessions.c.agent == self._parts.name,
                sessions.c.state == "idle",
                sessions.c.updated_at > now - 2 * _HOUR_S,
            )
        ).all()
        found = (self._cooling_one(connection, row, now) for row in rows)
        return [one for one in found if one is not None]

    def _cooling_one(self, connection: Connection, row: Any, now: float) -> _Cooling | None:
        last = connection.execute(
            select(calls.c.tier, calls.c.model, calls.c.marks, calls.c.started_at, calls.c.purpose)
            .where(
                calls.c.session_id == row.id,
                calls.c.epoch == row.epoch,
                calls.c.read + calls.c.write + calls.c.write_long > 0,
            )
            .order_by(calls.c.id.desc())
            .limit(MOST_KEPT)
        ).all()
        tiers = {tier.name: tier for tier in self._parts.tiers}
        if not last or last[0].tier not in tiers:
            return None
        if len(last) == MOST_KEPT and all(call.purpose == "keep" for call in last):
            return None
        rules = semantics(last[0].model)
        long = "long" in parse_marks(last[0].marks).entries.values()
        ttl_s = rules.long_ttl_s if long and rules.long_ttl_s else rules.ttl_s
        left = last[0].started_at + ttl_s - now
        if not 0 < left <= LEAD_S:
            return None
        said = select(entries.c.at).where(entries.c.session_id == row.id, entries.c.kind == "user")
        at = connection.execute(said.order_by(entries.c.seq.desc()).limit(1)).scalar() or now
        return _Cooling(row.name, last[0].tier, ttl_s, max(0.0, now - at))

    def _pauses(self, connection: Connection, now: float) -> Pauses:
        """Return how long this agent's users have stayed away from their sessions of late."""
        rows = connection.execute(
            select(entries.c.session_id, entries.c.at)
            .join(sessions, sessions.c.id == entries.c.session_id)
            .where(
                sessions.c.tenant == self._parts.memory.tenant,
                sessions.c.agent == self._parts.name,
                entries.c.kind == "user",
            )
            .order_by(entries.c.at.desc())
            .limit(_PAUSES)
        ).all()
        later: dict[int, float] = {}
        back: list[float] = []
        gone = 0
        for session_id, at in rows:  # newest first
            if session_id in later:
                back.append(later[session_id] - at)
            elif now - at > 2 * _HOUR_S:
                gone += 1
            later[session_id] = at
        return Pauses(back, gone)


def _idle_state(turn: Turn, tier: Tier, reason: str) -> State:
    return {
        "session": turn.session,
        "user": turn.user,
        "turn": turn.number,
        "step": 0,
        "tier": tier.name,
        "decision": {"stage": "idle", "reason": reason},
        "failures": [],
    }


def _reason(best: Idle, one: _Cooling, back: float, soon: float, length: int, low: int) -> str:
    return (
        f"away for {one.away:.0f} s, back with {back:.0%} ({soon:.0%} within {one.ttl_s:.0f} s):"
        f" {best.action} at ${best.cost / 1e6:.4f} costs least of {length} cached tokens, {low} after"
        " a compaction"
    )


__all__ = ["Action", "Keeping", "Pauses"]
