"""One database, opened well: transactions that queue instead of failing, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from agentmesh.errors import ConfigError, StoreError, missing_extra

T = TypeVar("T")

BUSY_TIMEOUT_MS = 60_000
POOL_SIZE = 64
BATCH = 64


class Database:
    """An engine with two verbs: `read` and `write`.

    A write is a function of a connection and runs in one transaction. On SQLite the writes of a
    process queue in order of arrival, and the first in the queue runs all that wait in one
    transaction (group commit): nobody starves, nobody sees "database is locked". On
    PostgreSQL every write has a connection of its own.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.in_memory = self.is_sqlite and self.url.database in (None, "", ":memory:")
        self.engine = _engine(self.url, in_memory=self.in_memory)
        self._queue: deque[_Job[Any]] = deque()
        self._mutex = threading.Lock()
        self._led = False

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a read transaction and return its result."""
        if self.in_memory:
            return self.write(work)
        with _errors(), self.engine.connect() as connection:
            return work(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, all of it or nothing, and return its result.

        An exception that `work` raises rolls back its own writes only.
        """
        if not self.is_sqlite:
            with _errors(), self.engine.begin() as connection:
                return work(connection)
        job = _Job(work)
        if not self._enqueue(job):
            try:
                job.signal.wait()
            except BaseException:
                self._leave(job)
                raise
        if not job.finished:
            self._lead()
        return job.result()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _enqueue(self, job: _Job[Any]) -> bool:
        """Queue the job; true if its caller is to lead the next batch."""
        with self._mutex:
            self._queue.append(job)
            leads, self._led = not self._led, True
            return leads

    def _leave(self, job: _Job[Any]) -> None:
        """Take an interrupted caller's job out and pass on the lead if it was just given it."""
        with self._mutex:
            if job in self._queue:
                self._queue.remove(job)
                if job.signal.is_set():
                    self._pass_on()

    def _pass_on(self) -> None:
        if self._queue:
            self._queue[0].signal.set()
        else:
            self._led = False

    def _lead(self) -> None:
        """Run all that wait, up to a batch, in one transaction, then let the next caller lead."""
        with self._mutex:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        try:
            with _errors(), self._immediate() as connection, connection.begin():
                for job in batch:
                    job.run(connection, alone=len(batch) == 1)
        except BaseException as error:
            for job in batch:
                job.error = job.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for job in batch:
                job.finished = True
                job.signal.set()
            with self._mutex:
                self._pass_on()

    def _immediate(self) -> Connection:
        return self.engine.connect().execution_options(immediate=True)


class _Job(Generic[T]):
    """One queued write and what became of it."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work = work
        self.signal = threading.Event()  # the work is done, or its caller is to lead
        self.finished = False
        self.value: T | None = None
        self.error: BaseException | None = None

    def run(self, connection: Connection, *, alone: bool) -> None:
        """Run the work; alone it may fail the transaction, in company only its savepoint."""
        if alone:
            self.value = self.work(connection)
            return
        try:
            with connection.begin_nested():
                self.value = self.work(connection)
        except DBAPIError as error:
            self.error = _translate(error)
        except Exception as error:  # noqa: BLE001  # it belongs to this job's caller
            self.error = error

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set by `run` whenever there is no error


class _errors:  # reads as a statement: `with _errors(), ...`
    """Turn the driver's errors into ours."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            raise _translate(error) from error


def _translate(error: SQLAlchemyError) -> StoreError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    lowered = cause.lower()
    if "readonly" in lowered or "read-only" in lowered:
        return StoreError(f"the database is read-only: {cause}", hint="check the file's rights")
    if "full" in lowered:
        return StoreError(f"the database's disk is full: {cause}", hint="free some space")
    if "unable to open" in lowered:
        return StoreError(f"the database cannot be opened: {cause}", hint="does its folder exist?")
    if "not a database" in lowered or "malformed" in lowered:
        return StoreError(f"this is no intact database: {cause}", hint="restore it from a backup")
    return StoreError(f"the database refused: {cause}", hint="see the database's own log")


def _parse(url: str) -> URL:
    hint = "use sqlite:///FILE.db, sqlite:// (in memory) or postgresql+psycopg://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"{url!r} is not a database URL", hint=hint) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"databases of kind {parsed.drivername!r} are not supported", hint=hint)
    return parsed


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
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
