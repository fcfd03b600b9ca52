"""Sessions: an append-only log with one writer at a time.

A turn takes the session's lease, which carries a fencing number: whatever a holder writes after
its lease was taken over is refused. The head of the log moves by compare-and-set, so that no
entry is ever lost or doubled.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from agentmesh import canonical
from agentmesh.errors import BusyError, ConflictError, CorruptError, ErasedError, InputError
from agentmesh.memory.epochs import Epoch
from agentmesh.memory.render import SHOWN, PrefixHash
from agentmesh.memory.tables import entries, sessions
from agentmesh.prompt import Entry

LEASE_S = 120.0


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
    return f"{socket.gethostname()}:{os.getpid()}"


def alive(name: str) -> bool:
    """Say whether a lease's owner may still be running; a process of another host may."""
    host, _, pid = name.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find(connection: Connection, tenant: str, name: str) -> Row[Any] | None:
    """Return a session's row, or None."""
    return connection.execute(
        select(sessions).where(sessions.c.tenant == tenant, sessions.c.name == name)
    ).first()


def create(
    connection: Connection, *, tenant: str, name: str, user: str, agent: str, now: float
) -> Row[Any]:
    """Make a session and return its row."""
    return connection.execute(
        insert(sessions)
        .values(
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
        .returning(sessions)
    ).one()


def take_lease(
    connection: Connection, row: Row[Any], *, user: str, now: float, next_turn: bool
) -> Row[Any]:
    """Take a session's lease for a turn and return its new row.

    Raises:
        BusyError: a running turn holds it.
        ErasedError: the session was erased.
        InputError: it belongs to another user.
    """
    if row.state == "erased":
        raise ErasedError(f"session {row.name!r} was erased", hint="begin a new session")
    if row.user != user:
        raise InputError(
            f"session {row.name!r} does not belong to user {user!r}", hint="use another session id"
        )
    held = row.state == "running" and row.lease_until > now and alive(row.owner)
    if held:
        raise BusyError(f"session {row.name!r} is answering another message")
    taken = connection.execute(
        update(sessions)
        .where(sessions.c.id == row.id, sessions.c.fence == row.fence)
        .values(
            fence=row.fence + 1,
            turn=row.turn + next_turn,
            state="running",
            owner=owner(),
            lease_until=now + LEASE_S,
            updated_at=now,
        )
        .returning(sessions)
    ).first()
    if taken is None:
        raise BusyError(f"session {row.name!r} is answering another message")
    return taken


def append(
    connection: Connection,
    *,
    session_id: int,
    tenant: str,
    fence: int,
    head: int,
    records: Sequence[Record],
    now: float,
    **changes: Any,
) -> None:
    """Append records to a log, and change its session's row, if the caller still may.

    Raises:
        ConflictError: the lease was taken over, or the log has moved.
    """
    values: dict[str, Any] = {"updated_at": now, "lease_until": now + LEASE_S, **changes}
    if records:
        values |= {"head": records[-1].seq, "chain": records[-1].chain}
    moved = connection.execute(
        update(sessions)
        .where(
            sessions.c.id == session_id,
            sessions.c.fence == fence,
            sessions.c.head == head,
            sessions.c.state != "erased",
        )
        .values(values)
    )
    if moved.rowcount != 1:
        raise ConflictError(
            "the session went on without this turn", hint="its lease ran out or it was erased"
        )
    if records:
        connection.execute(
            insert(entries),
            [
                {
                    "session_id": session_id,
                    "seq": record.seq,
                    "tenant": tenant,
                    "turn": record.turn,
                    "step": record.step,
                    "kind": record.kind,
                    "body": record.body,
                    "chain": record.chain,
                    "tokens": record.tokens,
                    "at": record.at,
                }
                for record in records
            ],
        )


def load(connection: Connection, session_id: int, after: int = 0) -> list[Record]:
    """Return a log's records after a seq, oldest first."""
    rows = connection.execute(
        select(entries)
        .where(entries.c.session_id == session_id, entries.c.seq > after)
        .order_by(entries.c.seq)
    )
    return [Record(r.seq, r.turn, r.step, r.kind, r.body, r.chain, r.tokens, r.at) for r in rows]


def verify(records: Sequence[Record], chain: str) -> None:
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
    if previous != chain:
        raise CorruptError(
            f"the log ends at entry {expected - 1}, its session says otherwise",
            hint="rows are missing at the end: restore a backup",
        )
