"""What was spent so far: sums over the ledger that read only its new rows.

A budget is checked before every call. Its sums would cost a scan of all their rows each time, so
they are kept here: counted in full when they are first asked for, and from then on by what was
stored since, whichever process stored it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, select

from agentmesh import canonical
from agentmesh.economy.usage import Usage
from agentmesh.memory.tables import calls, sessions

if TYPE_CHECKING:
    from agentmesh.economy.prices import PriceBook
    from agentmesh.memory import Memory

Scope = Literal["turn", "session", "user", "day"]

DAY_S = 86_400.0

IN_FLIGHT = 1_000
"""Newest rows that PostgreSQL may still add to: a row's number is drawn before its commit."""

RECOUNT_S = 3_600.0
"""Rows that were erased leave the sums when they are counted in full again."""

MAX_SUMS = 10_000

_ROWS: Select[Any] = select(
    calls.c.id,
    calls.c.tenant,
    calls.c.agent,
    calls.c.user,
    calls.c.session_id,
    calls.c.turn,
    calls.c.started_at,
    calls.c.model,
    calls.c.planned,
    calls.c.cost,
).order_by(calls.c.id)


class Sum(NamedTuple):
    """Which calls a sum is over: a session's, one turn's, a user's, or those of a day.

    `whose` is a session's number, a user's name, or the second at which a day began. Users' and
    days' sums are over one agent's calls.
    """

    scope: Scope
    whose: str | float
    turn: int = 0


def day(at: float) -> float:
    """Return the second at which a time's day began, in UTC."""
    return at - at % DAY_S


class Spending:
    """The sums that were asked for, as the ledger grows.

    Not safe for concurrent use: `Budgets` asks under its lock.
    """

    def __init__(self, memory: Memory, agent: str, prices: PriceBook) -> None:
        self._tenant = memory.tenant
        self._agent = agent
        self._prices = prices
        self._lag = 0 if memory.database.is_sqlite else IN_FLIGHT
        self._mark: _Mark | None = None
        self._sums: dict[Sum, int] = {}
        self._counted_at = 0.0

    def advance(self, connection: Connection) -> None:
        """Take up what was stored since; `spent` answers as of now."""
        if self._mark is None or time.monotonic() - self._counted_at > RECOUNT_S:
            self._begin(connection)
            return
        which = [calls.c.id >= self._mark.id]
        if self._lag:
            newest = _newest(connection)
            far = newest - self._mark.id > 2 * self._lag
            which.append(calls.c.id <= (newest - self._lag if far else self._mark.id))
        rows = connection.execute(_ROWS.where(*which)).all()
        if not rows or _mark(rows[0]) != self._mark:  # erased; its number may be another's now
            self._begin(connection)
            return
        for row in rows[1:]:
            self._add(row)
        self._mark = _mark(rows[-1])

    def spent(self, connection: Connection, what: Sum) -> int:
        """Return a sum, in micro-dollars."""
        which = self._of(what)
        id = self._mark.id if self._mark else 0
        if what not in self._sums:
            if len(self._sums) >= MAX_SUMS:
                self._sums.clear()
            self._sums[what] = self._total(connection, calls.c.id <= id, *which) if id else 0
        newest = self._lag or not id
        return self._sums[what] + (
            self._total(connection, calls.c.id > id, *which) if newest else 0
        )

    def _begin(self, connection: Connection) -> None:
        """Forget all sums and mark the end of the ledger."""
        settled = calls.c.id <= _newest(connection) - self._lag
        row = connection.execute(
            _ROWS.where(settled).order_by(None).order_by(calls.c.id.desc()).limit(1)
        ).first()
        self._mark = None if row is None else _mark(row)
        self._sums = {}
        self._counted_at = time.monotonic()

    def _add(self, row: Any) -> None:
        if row.tenant != self._tenant:  # passed over: the mark is a place in the whole table
            return
        sums = [Sum("session", row.session_id), Sum("turn", row.session_id, row.turn)]
        if row.agent == self._agent:
            sums += [Sum("user", row.user), Sum("day", day(row.started_at))]
        for one in sums:
            if one in self._sums:
                self._sums[one] += self._cost(row)

    def _of(self, what: Sum) -> list[ColumnElement[bool]]:
        if what.scope in ("session", "turn"):
            turn = [calls.c.turn == what.turn] if what.scope == "turn" else []
            return [calls.c.session_id == what.whose, *turn]
        mine = calls.c.agent == self._agent
        if what.scope == "day":
            end = float(what.whose) + DAY_S
            at = calls.c.started_at >= what.whose, calls.c.started_at < end
            return [calls.c.tenant == self._tenant, *at, mine]
        user = sessions.c.tenant == self._tenant, sessions.c.user == what.whose
        return [calls.c.session_id.in_(select(sessions.c.id).where(*user)), mine]

    def _total(self, connection: Connection, *which: ColumnElement[bool]) -> int:
        sums = func.coalesce(func.sum(calls.c.cost), 0), func.count() - func.count(calls.c.cost)
        known, untold = connection.execute(select(*sums).where(*which)).one()
        if not untold:
            return int(known)
        rows = connection.execute(_ROWS.where(calls.c.cost.is_(None), *which))
        return int(known) + sum(self._cost(row) for row in rows)

    def _cost(self, row: Any) -> int:
        """Return what a call cost; as expected, where nobody told."""
        if row.cost is not None:
            return int(row.cost)
        return self._prices.cost(row.model, Usage(**canonical.loads(row.planned))) or 0


class _Mark(NamedTuple):
    """The last row that the sums hold."""

    id: int
    started_at: float


def _mark(row: Any) -> _Mark:
    return _Mark(row.id, row.started_at)


def _newest(connection: Connection) -> int:
    return connection.execute(select(func.max(calls.c.id))).scalar_one() or 0
