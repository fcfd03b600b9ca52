"""One database, opened well: transactions that queue instead of failing, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from agentmesh.errors import ConfigError, StoreError, missing_extra
from agentmesh.memory.group import GroupCommit
from agentmesh.memory.twins import suspends, wait

T = TypeVar("T")

BUSY_TIMEOUT_MS = 60_000
POOL_SIZE = 64
THREADS = 16
"""Threads in which a database works for tasks of asyncio, at most; they start as they are needed."""

_POLL_S = 0.0005, 0.004
ATTEMPTS = 8
"""Tries of a PostgreSQL transaction that lost a deadlock or its connection before its commit."""

CROWDED_S = 1.0
"""How long writers of a place where they have met do not try it beside each other."""

_PLACES = 1_024

_PRAGMAS = (
    # An append changes a few hundred bytes of each page that it touches, and every page that is
    # touched is written whole: small pages write less than half of what the default of 4 KB does.
    "page_size=1024",
    "wal_autocheckpoint=2000",
    f"busy_timeout={BUSY_TIMEOUT_MS}",
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "secure_delete=ON",
)


within: ContextVar[bool] = ContextVar("agentmesh_within", default=False)
"""Whether this context works for a write that is under way, in whichever thread."""


class Database:
    """An engine with two verbs: `read` and `write`.

    A write is a function of a connection and runs in one transaction. On SQLite the writes of a
    process queue in order of arrival, and the first in the queue runs all that wait in one
    transaction (group commit): nobody starves, nobody sees "database is locked". On
    PostgreSQL every write has a connection of its own.

    Both wait as `twins` says: they block a thread, or suspend a task.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.in_memory = self.is_sqlite and _in_memory(self.url)
        self.engine = _engine(self.url, in_memory=self.in_memory)
        self._immediate = self.engine.execution_options(immediate=True)
        # A read on PostgreSQL begins and ends no transaction: two trips to the server fewer.
        plain = {} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._reading = self.engine.execution_options(**plain)
        self._threads, self._leader = _threads(THREADS), _threads(1)
        self._group = GroupCommit(self._transaction, self._lead)
        self._writer: Connection | None = None
        self._paused = False
        self._crowds: dict[tuple[str, ...], float] = {}
        _opened.add(self)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, and return its result."""
        if self.in_memory:
            return self.write(work)
        return self.apart(lambda: self._again(lambda: self._read(work)))

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, all of it or nothing, and return its result.

        An exception that `work` raises rolls back its own writes only. `work` may run again
        after it was rolled back, so it changes nothing but the database.
        """
        if within.get():
            raise StoreError("a write began inside another write", hint="finish the first one")
        if self.is_sqlite:
            return self._group.run(work)
        return self.apart(lambda: self._again(lambda: self._write(work)), binding=True)

    def apart(self, work: Callable[[], T], *, binding: bool = False) -> T:
        """Run what blocks: in a thread of its own while the caller's task is suspended, if it is one.

        A `binding` work ends before a cancellation takes effect.
        """
        if not suspends():
            return work()
        future = self._lend(work)
        wait(future, binding=binding)
        return future.result()

    def crowd(self, place: tuple[str, ...]) -> None:
        """Note that writers have met at a place."""
        if len(self._crowds) > _PLACES:
            self._crowds.clear()
        self._crowds[place] = time.monotonic() + CROWDED_S

    def crowded(self, place: tuple[str, ...]) -> bool:
        """Say whether writers have met at a place of late."""
        return self._crowds.get(place, 0.0) > time.monotonic()

    def scrub(self, wait_s: float = 30.0) -> bool:
        """Leave no copy of deleted rows in the files; true if none is left.

        SQLite has overwritten them in the file itself; its log is emptied here, which has to
        wait for whoever still reads an older state. PostgreSQL is asked to free their space.
        """
        return self.apart(lambda: self._scrub(wait_s), binding=True)

    def _scrub(self, wait_s: float) -> bool:
        if self.in_memory:
            return True
        with _errors(), self.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            if not self.is_sqlite:
                driver.autocommit = True
                try:
                    driver.execute("VACUUM")
                finally:
                    driver.autocommit = False
                return False
            deadline = time.monotonic() + wait_s
            while driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
            return True

    def close(self) -> None:
        """Close every connection, once the work of tasks that were cancelled has ended."""
        old = self._threads, self._leader
        self._threads, self._leader = _threads(THREADS), _threads(1)
        for threads in old:
            threads.shutdown()
        self._close_writer()
        self.engine.dispose()

    def before_fork(self) -> None:
        """Let no transaction be under way: SQLite would believe for ever that the child holds it."""
        self._paused = self.is_sqlite and self._group.pause()

    def after_fork(self) -> None:
        """Go on in the parent."""
        if self._paused:
            self._group.go_on()

    def in_child(self) -> None:
        """Leave the parent's connections and queue alone."""
        self._group.reset()
        self._threads, self._leader = _threads(THREADS), _threads(1)
        if not self.in_memory:
            # Even closing them would touch what the parent uses: they are kept, unused.
            _inherited.extend((self.engine.pool, self._writer))
            self._writer = None
            self.engine.dispose(close=False)

    def _lend(self, work: Callable[[], T]) -> Future[T]:
        """Run a function in one of the threads for tasks."""
        return self._threads.submit(copy_context().run, work)

    def _lead(self, work: Callable[[], None]) -> None:
        """Run a leader's work in a thread that nothing else can keep busy: others wait for it."""
        try:
            self._leader.submit(work)
        except RuntimeError:  # it was closed this moment, and replaced before that
            self._leader.submit(work)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Open the next write on SQLite, on a connection that is kept as long as all goes well."""
        with _errors():
            if self._writer is None:
                self._writer = self._immediate.connect()
                _busy_timeout(self._writer, 0)  # `_begin` waits itself, and more fairly
            try:
                with self._writer.begin():
                    yield self._writer
            except BaseException:
                self._close_writer()
                raise

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            _busy_timeout(writer, BUSY_TIMEOUT_MS)
            writer.close()

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Open a transaction that may rebuild tables: foreign keys are checked at its end only."""
        with _errors(), self._immediate.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            if self.is_sqlite:  # else dropping a table would delete the rows that refer to it
                driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    if self.is_sqlite and driver.execute("PRAGMA foreign_key_check").fetchone():
                        raise StoreError("the migration broke a reference", hint="report it")
            finally:
                if self.is_sqlite:
                    driver.execute("PRAGMA foreign_keys=ON")

    def _read(self, work: Callable[[Connection], T]) -> T:
        with _errors(), self._reading.connect() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        committing = False
        try:
            with self.engine.begin() as connection:
                value = work(connection)
                committing = True
        except SQLAlchemyError as error:
            # With its commit under way the outcome is unknown: such a write is not tried again.
            cause = getattr(error, "orig", None) if committing else error
            raise translate(error) from cause
        return value

    def _again(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns, tried again after a deadlock or a lost connection."""
        for number in range(1, ATTEMPTS):
            try:
                return attempt()
            except StoreError as error:
                if not _passing(error.__cause__):
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**number))
        return attempt()


def insert_once(connection: Connection, table: Table, **values: Any) -> None:
    """Insert a row unless one with its key is there already."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())


def lock(connection: Connection, name: str, *, shared: bool = False) -> None:
    """Hold a lock by name until the transaction ends; on SQLite a write holds all locks."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        take = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        connection.execute(select(take(key)))


def _threads(most: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(most, thread_name_prefix="agentmesh-memory")


class _errors:  # reads as a statement: `with _errors(), ...`
    """Turn the driver's errors into ours."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            raise translate(error) from error


_SQLITE = {
    "SQLITE_READONLY": ("the database is read-only", "check the rights of the file and its folder"),
    "SQLITE_FULL": ("the disk or the database is full", "free some space"),
    "SQLITE_CANTOPEN": ("the database cannot be opened", "does its folder exist?"),
    "SQLITE_NOTADB": ("this file is no database", "use another file, or restore a backup"),
    "SQLITE_CORRUPT": ("the database is damaged", "restore a backup"),
    "SQLITE_BUSY": ("another process keeps the database locked", "end it, or try again later"),
    "SQLITE_LOCKED": ("another process keeps the database locked", "end it, or try again later"),
    "SQLITE_IOERR": ("the disk failed", "check the disk"),
}
_POSTGRES = {
    "25006": ("the database is read-only", "connect to the primary"),
    "53100": ("the disk is full", "free some space"),
    "53300": ("the server has no connection left", "raise max_connections"),
    "3D000": ("there is no such database", "create it first"),
    "28P01": ("the password is wrong", "check the URL"),
    "28000": ("the user is not allowed in", "check the URL"),
    "42501": ("the user lacks a right", "grant it"),
}
_PASSING = {"40001", "40P01"}  # serialization failure, deadlock


def translate(error: SQLAlchemyError) -> StoreError:
    """Return our error for one of SQLAlchemy's: what happened, and what to do about it."""
    origin = getattr(error, "orig", None)
    cause = str(origin or error).strip().splitlines()[0] if str(origin or error).strip() else ""
    code = _code(origin)
    said, hint = next(
        (row for key, row in (_SQLITE | _POSTGRES).items() if code.startswith(key)),
        ("the database refused", "see the database's own log"),
    )
    if not code and type(origin).__name__ == "OperationalError":
        said, hint = "the database cannot be reached", "is the server running? check the URL"
    return StoreError(f"{said}: {cause}", hint=hint)


def _code(origin: BaseException | None) -> str:
    name = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    return str(name or "")


def _passing(cause: BaseException | None) -> bool:
    """Say whether a transaction that failed so can be tried again: nothing of it is stored."""
    if not isinstance(cause, DBAPIError):
        return False
    return cause.connection_invalidated or _code(cause.orig) in _PASSING


def _parse(url: str) -> URL:
    hint = "use sqlite:///FILE.db, sqlite:// (in memory) or postgresql+psycopg://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"{url!r} is not a database URL", hint=hint) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"databases of kind {parsed.drivername!r} are not supported", hint=hint)
    return parsed


def _in_memory(url: URL) -> bool:
    name = url.database or ""
    return name in ("", ":memory:") or "mode=memory" in name or url.query.get("mode") == "memory"


def _engine(url: URL, *, in_memory: bool) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise missing_extra("postgres", "PostgreSQL") from error
    options: dict[str, Any] = {"connect_args": {"check_same_thread": False}}
    if in_memory:
        options["poolclass"] = StaticPool
    else:
        options |= {"pool_size": POOL_SIZE, "max_overflow": POOL_SIZE}
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own transaction handling commits before DDL and begins late; ours is explicit.
    connection.isolation_level = None
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    for pragma in _PRAGMAS:
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}").close()
                break
            except sqlite3.OperationalError as error:
                # Turning WAL on does not wait for the busy timeout as all else does.
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.001, 0.02))


def _begin(connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    if not connection.get_execution_options().get("immediate"):
        driver.execute("BEGIN").close()
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE").close()
            return
        except sqlite3.OperationalError as error:
            # SQLite's own wait backs off up to 100 ms: who waits long is served last.
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(*_POLL_S))


def _busy_timeout(connection: Connection, milliseconds: int) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"PRAGMA busy_timeout={milliseconds}").close()


_opened: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[Any] = []


def _each(method: Callable[[Database], None]) -> Callable[[], None]:
    def run() -> None:
        for database in list(_opened):
            method(database)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_each(Database.before_fork),
        after_in_parent=_each(Database.after_fork),
        after_in_child=_each(Database.in_child),
    )
