"""`Memory`: the one object through which everything durable is reached."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from agentmesh import canonical
from agentmesh.errors import BusyError, ConfigError, InputError
from agentmesh.memory import erasure, schema, sessions, tables, tombstones
from agentmesh.memory.buckets import LIMITS, Bucket
from agentmesh.memory.database import Database
from agentmesh.memory.erasure import Receipt
from agentmesh.memory.export import export
from agentmesh.memory.frozen import load_anchors, load_epoch
from agentmesh.memory.history import History, Verified, rebuild, verify
from agentmesh.memory.items import Kind
from agentmesh.memory.ledger import Call, Ledger
from agentmesh.memory.promotion import Promotion, check_promotion
from agentmesh.memory.rhythm import Rhythm, load_times
from agentmesh.memory.sessions import View
from agentmesh.memory.turns import Turn
from agentmesh.memory.turnstile import Turnstile
from agentmesh.memory.twins import twin
from agentmesh.prompt import Prompt

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from agentmesh.memory.imports import Chat

VIEWS = 1_024
"""Sessions whose state a process keeps at hand."""

BUSY_WAIT_S = 30.0

_NAME_CHARS = {"tenant": 128, "agent": 128}
_OTHER_NAME_CHARS = 256


def _wait_on(turn: Turn | None) -> None:
    if turn is not None:
        turn.wait()


def _leave(turn: Turn | None) -> None:
    if turn is not None:
        turn.flush("idle")


class Memory:
    """Profile, Task and History of every session of a tenant, in one database.

    Whatever reads or writes has an async twin whose name begins with `a`: `aopen_turn`,
    `profile("u1").aget("language")`. It holds no thread while it waits.

    >>> memory = Memory("sqlite://")
    >>> memory.task("s1").set("order", "#W2378156").key
    'order'

    Args:
        url: `sqlite:///FILE.db`, `sqlite://` (in memory) or `postgresql+psycopg://...`.
        tenant: whose data this is; nothing of another tenant is ever seen.
        limits: tokens that a bucket may hold, by kind.
        organisation: tells which organisation a user belongs to; "" for none.
        promote: what of a tool's or another user's words may enter a Profile or an organisation:
            "never", "ask" (they are pending until `Bucket.decide`), or a check of a `Claim`.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        url: str = "sqlite://",
        *,
        tenant: str = "default",
        limits: Mapping[Kind, int] | None = None,
        organisation: Callable[[str], str] | None = None,
        promote: Promotion = "ask",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tenant = _name("tenant", tenant)
        self.promote = check_promotion(promote)
        self.clock = clock
        self.database = Database(url)
        self.ledger = Ledger(self.database, tenant)
        self.rhythm = Rhythm(tenant)
        self.organisation_of = organisation or _nobody
        self._limits = _checked_limits(limits or {})
        self._views: OrderedDict[str, View] = OrderedDict()
        self._live: dict[str, Turn] = {}
        self._turnstile = Turnstile()
        try:
            schema.prepare(self.database)
        except BaseException:
            self.database.close()
            raise

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
        names = {"session": session, "user": user, "agent": agent}
        for what, value in names.items():
            _name(what, value)

        def begin(turn: Turn) -> None:
            turn.claim = claim
            turn.close_unfinished()
            if turn.number == 1 and opening:
                turn.add("assistant", [{"type": "text", "text": opening}])
            turn.add(kind, blocks)

        return self._take(session, user, agent, begin, wait_s)

    def reopen_turn(
        self, *, session: str, user: str, claim: str = "", wait_s: float = BUSY_WAIT_S
    ) -> Turn | None:
        """Take up a session's unfinished turn; None if its last turn is finished."""

        def begin(turn: Turn) -> None:
            turn.claim = claim

        turn = self._take(session, user, "", begin, wait_s)
        if turn.records and turn.records[-1].kind != "end":
            return turn
        turn.flush("idle")
        return None

    def maintain(self, session: str) -> Turn | None:
        """Take a session's lease between two turns; None if one runs, waits or was cut short.

        Whoever adds to the log must add an `end` after it, and `flush("idle")` in any case.
        """
        row = self.database.read(lambda c: sessions.find(c, self.tenant, session))
        if row is None or row.state != "idle":
            return None
        try:
            turn = self._take(session, row.user, "", lambda _turn: None, 0.0)
        except BusyError:
            return None
        if turn.view.epoch is not None and turn.records and turn.records[-1].kind == "end":
            return turn
        turn.flush("idle")
        return None

    def begun(self, session: str) -> bool:
        """Say whether a session has had a turn."""
        if session in self._views:
            return True
        return self.database.read(lambda c: sessions.find(c, self.tenant, session)) is not None

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
        names = self.sessions() if session is None else [session]
        done = [self.database.read(partial(self._verify, session=name)) for name in names]
        return Verified(
            sessions=len(done),
            entries=sum(one.entries for one in done),
            calls=sum(one.calls for one in done),
        )

    def _verify(self, connection: Connection, session: str) -> Verified:
        return verify(connection, self.tenant, self.find(connection, session))

    def rebuild(self, session: str, call: Call) -> Prompt:
        """Return the prompt of a past call; CorruptError if it is not the one that was sent."""
        return self.database.read(lambda c: rebuild(c, self.tenant, self.find(c, session).id, call))

    def import_chats(self, chats: str | Path | Sequence[Chat], *, user: str = "") -> list[str]:
        """Make a session of each OpenAI-style chat; all of them or none. Returns their names.

        Args:
            chats: a JSONL file, or what `agentmesh.memory.imports` has read.
            user: whose they are, where a line of the file does not say.
        """
        from agentmesh.memory.imports import read_chats, store_chats

        if isinstance(chats, str | Path):
            path = chats
            return store_chats(self, self.database.apart(lambda: read_chats(path, user=user)))
        return store_chats(self, chats)

    def import_checkpoints(
        self,
        saver: BaseCheckpointSaver[Any],
        *,
        user: str | Callable[[str], str],
        threads: Iterable[str] | None = None,
    ) -> list[str]:
        """Make a session of each LangGraph thread; all of them or none. Returns their names.

        Args:
            saver: the checkpointer that holds them.
            user: whose they are, or a function of the thread's name that says so.
            threads: which; all by default.
        """
        from agentmesh.memory.imports import read_checkpoints, store_chats

        read = self.database.apart(lambda: read_checkpoints(saver, user=user, threads=threads))
        return store_chats(self, read)

    def export(self, user: str) -> dict[str, Any]:
        """Return everything that is known of a user, as JSON-able data."""
        return self.database.read(
            lambda c: export(c, self.tenant, _name("user", user), self.clock())
        )

    def erase(
        self, *, user: str | None = None, session: str | None = None, tenant: str | None = None
    ) -> Receipt:
        """Remove a user, a session or this whole tenant for good, and refuse late writes to it.

        It leaves every table, and on SQLite the file and its log too. Give exactly one name;
        `tenant` must be this memory's own.
        """
        given = {"user": user, "session": session, "tenant": tenant}
        named = [(kind, name) for kind, name in given.items() if name is not None]
        if len(named) != 1:
            raise InputError("erase one thing at a time", hint="give user=, session= or tenant=")
        kind, name = named[0]
        if kind == "tenant" and name != self.tenant:
            raise InputError(
                f"this memory is of tenant {self.tenant!r}, not {name!r}",
                hint="open Memory(url, tenant=...) of the one to erase",
            )
        _name(kind, name)
        return self._erase(lambda c: erasure.erase(c, kind, self.tenant, name, self.clock()))  # type: ignore[arg-type]  # one of the three

    def readmit(self, *, user: str | None = None, session: str | None = None) -> bool:
        """Accept writes again to a user or session that was erased; false if it was not."""
        if (user is None) == (session is None):
            raise InputError("readmit one thing at a time", hint="give user= or session=")
        kind: tombstones.Kind = "session" if user is None else "user"
        name = _name(kind, user or session or "")
        return self.database.write(lambda c: tombstones.lift(c, kind, self.tenant, name))

    def retain(self, days: float) -> Receipt:
        """Remove sessions that nobody has used for `days`, and item versions superseded before."""
        if not isinstance(days, int | float) or not days > 0:
            raise InputError(f"cannot retain {days!r} days", hint="a number above 0")
        return self._erase(lambda c: erasure.retain(c, self.tenant, days, self.clock()))

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

    def _erase(self, work: Callable[[Connection], tuple[Receipt, list[str]]]) -> Receipt:
        receipt, gone = self.database.write(work)
        for session in gone:
            self._views.pop(session, None)
        return receipt.signed(scrubbed=self.database.scrub())

    def find(self, connection: Connection, session: str) -> Any:
        """Return a session's row; InputError if there is none."""
        row = sessions.find(connection, self.tenant, session)
        if row is None:
            tombstones.refuse(connection, self.tenant, session=session)
            raise InputError(f"there is no session {session!r}", hint="see memory.sessions()")
        return row

    def release(self, turn: Turn, *, intact: bool = True) -> None:
        """Note that a turn no longer holds its lease, and wake who waits for it.

        Its view serves the next turn, unless what was added to it may not be stored.
        """
        if self._live.get(turn.session) is not turn:
            return
        del self._live[turn.session]
        if intact:
            self._views[turn.session] = turn.view
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
        self._turnstile.free(turn.session)

    def _bucket(self, kind: Kind, owner: str) -> Bucket:
        return Bucket(
            self.database,
            tenant=self.tenant,
            kind=kind,
            owner=_name(kind, owner),
            limit=self._limits[kind],
            clock=self.clock,
            promote=self.promote,
        )

    def _take(
        self, session: str, user: str, agent: str, begin: Callable[[Turn], None], wait_s: float
    ) -> Turn:
        """Take a session's lease when it is free; what `begin` adds is stored with it."""
        organisation = self._organisation(user)  # not our code: it may ask the database

        def attempt(again: bool) -> Turn:
            if again:  # looking costs other writers nothing
                self.database.read(lambda c: self._check_free(c, session, user))
            return self.database.write(
                lambda c: self._open(c, session, user, agent, organisation, begin)
            )

        turn = self._turnstile.take(session, attempt, wait_s)
        self._live[session] = turn
        return turn

    def _organisation(self, user: str) -> str:
        if self.organisation_of is _nobody:
            return ""
        return self.database.apart(lambda: self.organisation_of(user))

    def _check_free(self, connection: Connection, session: str, user: str) -> None:
        row = sessions.find(connection, self.tenant, session)
        if row is not None:
            sessions.check_free(row, user=user, now=self.clock())

    def _open(
        self,
        connection: Connection,
        session: str,
        user: str,
        agent: str,
        organisation: str,
        begin: Callable[[Turn], None],
    ) -> Turn:
        now = self.clock()
        row = sessions.find(connection, self.tenant, session, lock=True)
        if row is None and agent:
            sessions.create(
                connection, tenant=self.tenant, name=session, user=user, agent=agent, now=now
            )
            row = sessions.find(connection, self.tenant, session, lock=True)
        if row is None:
            row = self.find(connection, session)
        sessions.check_free(row, user=user, now=now)
        turn = Turn(
            self,
            self._view(connection, row),
            session=session,
            user=user,
            agent=agent or row.agent,
            organisation=organisation,
            number=row.turn + bool(agent),
            fence=row.fence + 1,
        )
        if agent:
            turn.catch_up(connection)  # a message that speaks of an edit comes after it
        begin(turn)
        turn.store(
            connection,
            fence=row.fence,
            changes={
                "fence": turn.fence,
                "turn": turn.number,
                "state": "running",
                "owner": sessions.owner(),
            },
        )
        turn.settle()
        return turn

    def _view(self, connection: Connection, row: Any) -> View:
        """Return the session's view for a new turn to own, loading what the cached one lacks."""
        view = self._views.pop(row.name, None)
        if view is None or view.id != row.id or not _agrees(view, row):
            view = View(row.id)
            if row.epoch:
                view.enter(load_epoch(connection, self.tenant, row.id, row.epoch))
                view.anchors = load_anchors(connection, row.id, row.epoch)
        if view.head < row.head:
            base = view.epoch.base if view.epoch else 0
            for record in sessions.load(connection, row.id, after=max(view.head, base)):
                view.grow(record)
            view.times = load_times(connection, row.id)
        view.head, view.chain = row.head, row.chain
        return view

    # A turn that nobody receives, because its task was cancelled, is given back as it was.
    aopen_turn = twin(open_turn, undo=Turn.abandon)
    areopen_turn = twin(reopen_turn, undo=_wait_on)
    amaintain = twin(maintain, undo=_leave)
    abegun = twin(begun)
    aabandon = twin(abandon)
    averify = twin(verify)
    arebuild = twin(rebuild)
    aimport_chats = twin(import_chats)
    aimport_checkpoints = twin(import_checkpoints)
    aexport = twin(export)
    aerase = twin(erase)
    areadmit = twin(readmit)
    aretain = twin(retain)
    asessions = twin(sessions)
    aclose = twin(close)


def _nobody(_user: str) -> str:
    return ""


def _agrees(view: View, row: Any) -> bool:
    """Say whether a cached view is an earlier state of what the database holds."""
    epoch = view.epoch.number if view.epoch else 0
    if epoch != row.epoch or view.head > row.head:
        return False
    return bool(view.head < row.head or view.chain == row.chain)


def _checked_limits(limits: Mapping[Kind, int]) -> dict[Kind, int]:
    for kind, limit in limits.items():
        if kind not in LIMITS or not isinstance(limit, int) or limit < 1:
            raise ConfigError(
                f"limits cannot be {kind!r}: {limit!r}",
                hint=f"tokens, at least 1, for {', '.join(LIMITS)}",
            )
    return {**LIMITS, **limits}


def _name(what: str, value: str) -> str:
    """Return a tenant's, user's or session's name if it is one."""
    most = _NAME_CHARS.get(what, _OTHER_NAME_CHARS)
    if not isinstance(value, str) or not value or len(value) > most:
        shown = f"{value!r:.60}"
        raise InputError(f"{what} {shown} is not a name", hint=f"text of 1 to {most} characters")
    if canonical.clean(value) != value or not value.isprintable():
        raise InputError(f"{what} {value!r} has characters that are not text", hint="use an id")
    return value
