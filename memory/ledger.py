"""The ledger: one row per model call, in tokens and integer micro-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, String, func, insert, select

from agentmesh import canonical
from agentmesh.economy.usage import Usage
from agentmesh.memory.statements import Statement
from agentmesh.memory.tables import calls, sessions
from agentmesh.memory.twins import twin

if TYPE_CHECKING:
    from agentmesh.memory.database import Database


@dataclass(frozen=True, slots=True)
class Call:
    """One model call as the ledger keeps it.

    `cost` is in micro-dollars, None where the model's price is unknown. `outcome` is `ok`,
    `check:NAME` for a draft that failed a check, or `error:KIND` for a tier that failed.
    `head` is the last log entry that the prompt showed; with `tail` and `marks` it rebuilds the
    prompt, whose SHA-256 is `prompt_sha`.
    """

    user: str
    agent: str
    epoch: int
    turn: int
    step: int
    tier: str
    model: str
    head: int
    usage: Usage
    cost: int | None
    outcome: str
    started_at: float
    latency_s: float
    purpose: str = "act"
    detail: str = ""
    tail: str = ""
    marks: str = '{"entries":{},"segments":{}}'
    prompt_sha: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    session: str = ""
    id: int = 0


_USAGE = ("fresh", "read", "write", "write_long", "output", "reasoning")
_PLAIN = [
    "user",
    "agent",
    "epoch",
    "turn",
    "step",
    "purpose",
    "tier",
    "model",
    "head",
    "tail",
    "marks",
    "prompt_sha",
    "cost",
    "outcome",
    "detail",
    "request_id",
    "started_at",
    "latency_s",
]


_INSERT = Statement(
    insert(calls), ("tenant", "session_id", "decision", "planned", *_PLAIN, *_USAGE)
)
_LENGTHS = {
    name: column.type.length
    for name in _PLAIN
    if isinstance((column := calls.c[name]).type, String) and column.type.length
}


def store(connection: Connection, tenant: str, session_id: int, rows: list[Call]) -> None:
    """Write calls into the ledger; text that a vendor made too long is cut."""
    values = (
        {
            "tenant": tenant,
            "session_id": session_id,
            "decision": canonical.dumps(dict(row.decision)),
            "planned": canonical.dumps(dict(row.planned)),
            **{name: _plain(name, getattr(row, name)) for name in _PLAIN},
            **{name: getattr(row.usage, name) for name in _USAGE},
        }
        for row in rows
    )
    _INSERT.run(connection, *values)


def load(connection: Connection, session_id: int) -> list[Call]:
    """Return a session's calls, by epoch and then oldest first."""
    query = (
        select(sessions.c.name, calls)
        .join(sessions, sessions.c.id == calls.c.session_id)
        .where(calls.c.session_id == session_id)
        .order_by(calls.c.epoch, calls.c.id)
    )
    return [_call(row) for row in connection.execute(query)]


def _plain(name: str, value: Any) -> Any:
    return canonical.clean(value)[: _LENGTHS.get(name)] if isinstance(value, str) else value


class Ledger:
    """Reads what calls were made and what they cost."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    def calls(
        self, *, session: str | None = None, user: str | None = None, turn: int | None = None
    ) -> list[Call]:
        """Return calls, oldest first; of one session, user or turn where given."""
        query = (
            select(sessions.c.name, calls)
            .join(sessions, sessions.c.id == calls.c.session_id)
            .where(calls.c.tenant == self._tenant)
            .order_by(calls.c.id)
        )
        if session is not None:
            query = query.where(sessions.c.name == session)
        if user is not None:
            query = query.where(sessions.c.user == user)
        if turn is not None:
            query = query.where(calls.c.turn == turn)
        return self._database.read(lambda c: [_call(row) for row in c.execute(query)])

    def spent(self, session: str) -> int:
        """Return a session's known cost so far, in micro-dollars."""
        query = (
            select(func.coalesce(func.sum(calls.c.cost), 0))
            .join(sessions, sessions.c.id == calls.c.session_id)
            .where(sessions.c.tenant == self._tenant, sessions.c.name == session)
        )
        return int(self._database.read(lambda c: c.execute(query).scalar_one()))

    acalls = twin(calls)
    aspent = twin(spent)


def _call(row: Any) -> Call:
    return Call(
        session=row.name,
        id=row.id,
        usage=Usage(*(getattr(row, name) for name in _USAGE)),
        decision=canonical.loads(row.decision),
        planned=canonical.loads(row.planned),
        **{name: getattr(row, name) for name in _PLAIN},
    )
