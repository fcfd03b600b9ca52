"""`Memory`: the one object through which everything durable is reached."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

from agentmesh import canonical
from agentmesh.errors import BusyError, CorruptError, InputError
from agentmesh.memory import sessions, tables
from agentmesh.memory.buckets import LIMITS, Bucket, Kind
from agentmesh.memory.database import Database
from agentmesh.memory.ledger import Ledger
from agentmesh.memory.render import SHOWN, prompt_sha
from agentmesh.memory.sessions import Record, View
from agentmesh.memory.turns import Turn, load_anchors, load_epoch, rebuild
from agentmesh.prompt import Prompt

VIEWS = 1_024
"""Sessions whose state a process keeps at hand."""

BUSY_WAIT_S = 30.0

_NAME_CHARS = 256


@dataclass(frozen=True, slots=True)
class Verified:
    """What `Memory.verify` has checked."""

    sessions: int
    entries: int
    calls: int


class Memory:
    """Profile, Task and History of every session of a tenant, in one database.

    >>> memory = Memory("sqlite://")
    >>> memory.task("s1").set("order", "#W2378156").key
    'order'

    Args:
        url: `sqlite:///FILE.db`, `sqlite://` (in memory) or `postgresql+psycopg://...`.
        tenant: whose data this is; nothing of another tenant is ever seen.
        limits: tokens that a bucket may hold, by kind.
        organisation: tells which organisation a user belongs to; "" for none.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        url: str = "sqlite://",
        *,
        tenant: str = "default",
        limits: Mapping[Kind, int] | None = None,
        organisation: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tenant = _name("tenant", tenant)
        self.clock = clock
        self.database = Database(url)
        self.ledger = Ledger(self.database, tenant)
        self.organisation_of = organisation or (lambda _user: "")
        self._limits = {**LIMITS, **(limits or {})}
        self._views: OrderedDict[str, View] = OrderedDict()
        self._live: dict[str, Turn] = {}
        self._freed = threading.Condition()
        self.database.write(lambda c: tables.metadata.create_all(c))

    def org(self, name: str) -> Bucket:
        """Return the facts of an organisation, shared by its users."""
        return self._bucket("org", name)

    def profile(self, user: str) -> Bucket:
        """Return the facts about a user."""
        return self._bucket("profile", user)

    def task(self, session: str) -> Bucket:
        """Return the facts about a session's task."""
        return self._bucket("task", session)

    def history(self, session: str) -> History:
        """Return a session's log."""
        return History(self, _name("session", session))

    def open_turn(
        self,
        *,
        session: str,
        user: str,
        agent: str,
        blocks: list[dict[str, Any]],
        kind: str = "user",
        opening: str = "",
        claim: str = "",
        wait_s: float = BUSY_WAIT_S,
    ) -> Turn:
        """Begin a turn: take the session's lease and log what the user said.

        Args:
            session: made if it does not exist.
            user: whose session it is.
            agent: who answers.
            blocks: the message.
            kind: `user`, or `blocked` for a message that no model shall see.
            opening: what the agent said first, logged when the session is made.
            claim: names the run that opens it, for `abandon`.
            wait_s: how long to wait for a turn of this session that is still running.

        Raises:
            BusyError: it still runs after `wait_s`.
            InputError: the session belongs to somebody else.
            ErasedError: the session was erased.
        """
        _name("session", session)
        _name("user", user)
        turn = self._wait_for_lease(session, user, agent, wait_s)
        turn.claim = claim
        turn.close_unfinished()
        if turn.number == 1 and opening:
            turn.add("assistant", [{"type": "text", "text": opening}])
        turn.add(kind, blocks)
        turn.flush()
        return turn

    def reopen_turn(
        self, *, session: str, user: str, claim: str = "", wait_s: float = BUSY_WAIT_S
    ) -> Turn | None:
        """Take up a session's unfinished turn; None if its last turn is finished."""
        turn = self._wait_for_lease(session, user, "", wait_s, reopen=True)
        turn.claim = claim
        if turn.records and turn.records[-1].kind != "end":
            return turn
        turn.flush("idle")
        return None

    def live(self, session: str, fence: int) -> Turn | None:
        """Return the turn that this process holds under a fencing number, or None."""
        turn = self._live.get(session)
        return turn if turn is not None and turn.fence == fence else None

    def abandon(self, session: str, claim: str) -> None:
        """End the turn that a run has left open; nothing if it has ended, waits or is not its."""
        turn = self._live.get(session)
        if turn is not None and claim and turn.claim == claim:
            turn.abandon()

    def verify(self, session: str | None = None) -> Verified:
        """Check every log against its hash chain and rebuild every call's prompt.

        Raises:
            CorruptError: a row does not match what was recorded.
        """
        checked = [0, 0, 0]
        for name in [session] if session is not None else self.sessions():
            history = self.history(name)
            row = self._row(name)
            records = history.records()
            sessions.verify(records, row.chain)
            made = self.ledger.calls(session=name)
            for call in made:
                self.rebuild(name, call)
            for i, n in enumerate((1, len(records), len(made))):
                checked[i] += n
        return Verified(*checked)

    def rebuild(self, session: str, call: Any) -> Prompt:
        """Return the prompt of a past call; CorruptError if it is not the one that was sent."""
        row = self._row(session)
        prompt = self.database.read(lambda c: rebuild(c, self.tenant, row.id, call))
        epoch = self.database.read(lambda c: load_epoch(c, self.tenant, row.id, call.epoch))
        if prompt_sha(epoch, prompt.entries, prompt.tail, prompt.marks) != call.prompt_sha:
            raise CorruptError(
                f"call {call.id} of session {session!r} cannot be rebuilt as it was sent",
                hint="a log entry or an epoch was changed",
            )
        return prompt

    def sessions(self, user: str | None = None) -> list[str]:
        """Return the names of the tenant's sessions, oldest first."""
        query = select(tables.sessions.c.name).where(tables.sessions.c.tenant == self.tenant)
        if user is not None:
            query = query.where(tables.sessions.c.user == user)
        query = query.order_by(tables.sessions.c.id)
        return list(self.database.read(lambda c: c.execute(query).scalars().all()))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def forget(self, session: str) -> None:
        """Drop what this process has cached of a session; the database is read again."""
        self._views.pop(session, None)
        self._live.pop(session, None)

    def release(self, turn: Turn) -> None:
        """Note that a turn gave its lease back, and wake who waits for it."""
        self._live.pop(turn.session, None)
        with self._freed:
            self._freed.notify_all()

    def insert_once(self, connection: Connection, table: Table, **values: Any) -> None:
        """Insert a row unless one with its key is there already."""
        dialect = sqlite if self.database.is_sqlite else postgresql
        connection.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())

    def _bucket(self, kind: Kind, owner: str) -> Bucket:
        return Bucket(
            self.database,
            tenant=self.tenant,
            kind=kind,
            owner=_name(kind, owner),
            limit=self._limits[kind],
            clock=self.clock,
        )

    def _row(self, session: str) -> Any:
        row = self.database.read(lambda c: sessions.find(c, self.tenant, session))
        if row is None:
            raise InputError(f"there is no session {session!r}", hint="see memory.sessions()")
        return row

    def _wait_for_lease(
        self, session: str, user: str, agent: str, wait_s: float, *, reopen: bool = False
    ) -> Turn:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self._lease(session, user, agent, reopen=reopen)
            except BusyError as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BusyError(
                        str(error), hint=f"it did not finish within {wait_s:g} s; try again"
                    ) from None
                with self._freed:
                    self._freed.wait(min(left, 0.05))

    def _lease(self, session: str, user: str, agent: str, *, reopen: bool) -> Turn:
        cached = self._views.get(session)
        now = self.clock()

        def work(connection: Connection) -> tuple[Any, View]:
            row = sessions.find(connection, self.tenant, session)
            if row is None:
                if reopen:
                    raise InputError(f"there is no session {session!r}", hint="begin with invoke()")
                row = sessions.create(
                    connection, tenant=self.tenant, name=session, user=user, agent=agent, now=now
                )
            row = sessions.take_lease(connection, row, user=user, now=now, next_turn=not reopen)
            return row, self._view(connection, row, cached)

        row, view = self.database.write(work)
        self._views[session] = view
        self._views.move_to_end(session)
        while len(self._views) > VIEWS:
            self._views.popitem(last=False)
        turn = Turn(
            self,
            view,
            session=session,
            user=user,
            agent=row.agent,
            number=row.turn,
            fence=row.fence,
        )
        self._live[session] = turn
        return turn

    def _view(self, connection: Connection, row: Any, cached: View | None) -> View:
        """Return the session's view, loading only what the cached one lacks."""
        view = cached
        if view is None or view.id != row.id or _epoch(view) != row.epoch or view.head > row.head:
            view = View(row.id)
            if row.epoch:
                view.enter(load_epoch(connection, self.tenant, row.id, row.epoch))
                view.anchors = load_anchors(connection, row.id, row.epoch)
        if view.head < row.head:
            base = view.epoch.base if view.epoch else 0
            for record in sessions.load(connection, row.id, after=max(view.head, base)):
                view.grow(record)
        view.head, view.chain = row.head, row.chain
        return view


def _epoch(view: View) -> int:
    return view.epoch.number if view.epoch else 0


class History:
    """A session's log, read only: `memory.history("s1").entries()`."""

    def __init__(self, memory: Memory, session: str) -> None:
        self._memory = memory
        self._session = session

    def records(self) -> list[Record]:
        """Return every record, bookkeeping included, oldest first."""
        row = self._memory._row(self._session)  # one module, one concept
        return self._memory.database.read(lambda c: sessions.load(c, row.id))

    def entries(self) -> list[Any]:
        """Return what models were shown, oldest first."""
        return [r.entry for r in self.records() if r.kind in SHOWN]

    def verify(self) -> int:
        """Check the log against its hash chain and return its length."""
        records = self.records()
        row = self._memory._row(self._session)
        sessions.verify(records, row.chain)
        return len(records)

    def __len__(self) -> int:
        row = self._memory._row(self._session)
        query = select(func.count()).where(tables.entries.c.session_id == row.id)
        return int(self._memory.database.read(lambda c: c.execute(query).scalar_one()))


def _name(what: str, value: str) -> str:
    """Return a tenant's, user's or session's name if it is one."""
    if not isinstance(value, str) or not value or len(value) > _NAME_CHARS:
        raise InputError(f"{what} {value!r} is not a name", hint="text of 1 to 256 characters")
    if canonical.clean(value) != value or not value.isprintable():
        raise InputError(f"{what} {value!r} has characters that are not text", hint="use an id")
    return value
