"""Sessions: an append-only log with one writer at a time.

A turn takes the session's lease, which carries a fencing number: whatever a holder writes after
its lease was taken over is refused. The head of the log moves by compare-and-set, so that no
entry is ever lost or doubled.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from agentmesh import canonical
from agentmesh.errors import BusyError, ConflictError, CorruptError, ErasedError, InputError
from agentmesh.memory import tombstones
from agentmesh.memory.database import insert_once
from agentmesh.memory.epochs import Epoch
from agentmesh.memory.render import SHOWN, PrefixHash
from agentmesh.memory.statements import Statement
from agentmesh.memory.tables import entries, sessions
from agentmesh.prompt import Entry

LEASE_S = 120.0

_COLUMNS = ("seq", "turn", "step", "kind", "body", "chain", "tokens", "at")


@dataclass(frozen=True, slots=True)
class Record:
    """One stored row of a log, shown to models or not, and the hash of the log up to it."""

    seq: int
    turn: int
    step: int
    kind: str
    body: str
    chain: str
    tokens: int
    at: float

    @property
    def entry(self) -> Entry:
        """The record as an entry of a prompt."""
        return Entry(self.seq, self.turn, self.step, self.kind, self.body, self.tokens)  # type: ignore[arg-type]  # callers ask only for shown kinds


@dataclass
class View:
    """What a process knows of a session: its epoch and the entries that the epoch shows.

    It is a cache of the database and grows by the new entries only.
    """

    id: int
    head: int = 0
    chain: str = ""
    epoch: Epoch | None = None
    records: list[Record] = field(default_factory=list)
    shown: list[Entry] = field(default_factory=list)
    seen: dict[Any, int] = field(default_factory=dict)
    anchors: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    prefix: PrefixHash | None = None

    def grow(self, record: Record) -> None:
        """Add the log's next record."""
        self.head, self.chain = record.seq, record.chain
        if self.epoch is not None and record.seq <= self.epoch.base:
            return
        self.records.append(record)
        if record.kind in SHOWN:
            self.shown.append(record.entry)
        if record.kind == "note":
            self.seen.update(canonical.loads(record.body).get("seen", {}))

    def enter(self, epoch: Epoch) -> None:
        """Begin an epoch: what came before its base is no longer shown."""
        self.epoch = epoch
        self.seen = dict(epoch.seen)
        self.records = [record for record in self.records if record.seq > epoch.base]
        self.shown = [record.entry for record in self.records if record.kind in SHOWN]
        self.prefix = PrefixHash(epoch)
        for record in self.records:
            if record.kind == "note":
                self.seen.update(canonical.loads(record.body).get("seen", {}))


def link(previous: str, seq: int, turn: int, step: int, kind: str, body: str) -> str:
    """Return the hash of a log that ends with this record."""
    return hashlib.sha256(f"{previous} {seq} {turn} {step} {kind}\n{body}".encode()).hexdigest()


def owner() -> str:
    """Return the name of this process, by which others can tell whether it still lives."""
    return f"{_host()}:{os.getpid()}:{_started(os.getpid())}"


def alive(name: str) -> bool:
    """Say whether a lease's owner may still be running; a process of another host may."""
    host, pid, started = [*name.rsplit(":", 2), "", ""][:3]
    if host != _host() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(int(pid)) == started


@cache
def _host() -> str:
    """Return this host and, where there are such, its space of process numbers (a container's)."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()}{space.removeprefix('pid:')}"


def _started(pid: int) -> str:
    """Return when a process began, in the system's ticks: its number may be another's by now."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


_NAMED = select(sessions).where(
    sessions.c.tenant == bindparam("of"), sessions.c.name == bindparam("called")
)
_FIND = Statement(_NAMED)
_FIND_LOCKED = Statement(_NAMED.with_for_update())
_INSERT = Statement(insert(entries), ("session_id", "tenant", *_COLUMNS))


@cache
def _move(columns: tuple[str, ...]) -> Statement:
    """Return the statement that changes columns of a session whose log has not moved."""
    return Statement(
        update(sessions)
        .where(
            sessions.c.id == bindparam("held_id"),
            sessions.c.tenant == bindparam("held_tenant"),
            sessions.c.fence == bindparam("held_fence"),
            sessions.c.head == bindparam("held_head"),
        )
        .values({column: bindparam(f"new_{column}") for column in columns})
    )


def find(connection: Connection, tenant: str, name: str, *, lock: bool = False) -> Any:
    """Return a session's row, or None; locked until the transaction ends where asked."""
    query = _FIND_LOCKED if lock else _FIND
    return query.first(connection, {"of": tenant, "called": name})


def create(
    connection: Connection, *, tenant: str, name: str, user: str, agent: str, now: float
) -> None:
    """Make a session.

    Raises:
        ErasedError: it, its user or its tenant was erased.
    """
    tombstones.refuse(connection, tenant, user=user, session=name)
    insert_once(
        connection,
        sessions,
        tenant=tenant,
        name=name,
        user=user,
        agent=agent,
        head=0,
        chain="",
        epoch=0,
        turn=0,
        state="idle",
        fence=0,
        owner="",
        lease_until=0.0,
        created_at=now,
        updated_at=now,
    )


def check_free(row: Any, *, user: str, now: float) -> None:
    """Check that a user's next turn may take a session's lease.

    Raises:
        BusyError: a running turn holds it.
        InputError: it belongs to another user.
    """
    if row.user != user:
        raise InputError(
            f"session {row.name!r} does not belong to user {user!r}", hint="use another session id"
        )
    if row.state == "running" and row.lease_until > now and alive(row.owner):
        raise BusyError(f"session {row.name!r} is answering another message")


def append(
    connection: Connection,
    *,
    session_id: int,
    tenant: str,
    fence: int,
    head: int,
    records: Sequence[Record],
    now: float,
    changes: Mapping[str, Any],
) -> None:
    """Append records to a log, and change its session's row, if the caller still may.

    Raises:
        ConflictError: the lease was taken over, or the log has moved.
        ErasedError: the session was erased.
    """
    values: dict[str, Any] = {"updated_at": now, "lease_until": now + LEASE_S, **changes}
    if records:
        values |= {"head": records[-1].seq, "chain": records[-1].chain}
    held = {"id": session_id, "tenant": tenant, "fence": fence, "head": head}
    moved = _move(tuple(values)).run(
        connection,
        {f"held_{name}": value for name, value in held.items()}
        | {f"new_{name}": value for name, value in values.items()},
    )
    if moved != 1:
        mine = sessions.c.id == session_id, sessions.c.tenant == tenant
        if connection.execute(select(sessions.c.id).where(*mine)).first() is None:
            raise ErasedError("the session was erased", hint="nothing of this turn was stored")
        raise ConflictError(
            "the session went on without this turn", hint="its lease ran out or was taken over"
        )
    if records:
        rows = (
            {
                "session_id": session_id,
                "tenant": tenant,
                **{name: getattr(record, name) for name in _COLUMNS},
            }
            for record in records
        )
        _INSERT.run(connection, *rows)


def load(
    connection: Connection, session_id: int, after: int = 0, until: int | None = None
) -> list[Record]:
    """Return a log's records after one seq and up to another, oldest first."""
    query = select(entries).where(entries.c.session_id == session_id, entries.c.seq > after)
    if until is not None:
        query = query.where(entries.c.seq <= until)
    rows = connection.execute(query.order_by(entries.c.seq))
    return [Record(r.seq, r.turn, r.step, r.kind, r.body, r.chain, r.tokens, r.at) for r in rows]


def verify(records: Sequence[Record], head: int, chain: str) -> None:
    """Check a whole log against its chain; CorruptError names the first bad row."""
    previous, expected = "", 1
    for record in records:
        link_ = link(previous, record.seq, record.turn, record.step, record.kind, record.body)
        if record.seq != expected or link_ != record.chain:
            raise CorruptError(
                f"log entry {record.seq} does not match its hash",
                hint="the row was changed or one before it is missing: restore a backup",
            )
        previous, expected = record.chain, expected + 1
    if (previous, expected - 1) != (chain, head):
        raise CorruptError(
            f"the log ends at entry {expected - 1}, its session says otherwise",
            hint="rows are missing at the end: restore a backup",
        )
