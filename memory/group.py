"""Group commit: the writes of a process queue in order and share transactions.

Whoever stands first in the queue leads: it runs all that wait in one transaction and then hands
the lead to the next. There is no thread of our own to start, stop or lose; only where a suspended
task would lead, a thread is borrowed for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from agentmesh.errors import StoreError
from agentmesh.memory.twins import suspends, wait

T = TypeVar("T")

BATCH = 64
"""Writes that one transaction takes at most, so that other processes get their turn too."""

FORK_WAIT_S = 10.0


class GroupCommit:
    """Runs writes one after the other, many in one transaction; each is all or nothing.

    Args:
        begin: opens a transaction, commits it at the end and rolls it back on an error. Its
            connection must be one that commits nothing by itself.
        lend: runs a function in a thread that may wait.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Connection]],
        lend: Callable[[Callable[[], None]], object],
    ) -> None:
        self._begin = begin
        self._lend = lend
        self.reset()

    def reset(self) -> None:
        """Forget all that waits: after a fork its threads are the parent's."""
        self._mutex = threading.Lock()
        self._queue: deque[_Job[Any]] = deque()
        self._leader: _Job[Any] | None = None
        self._running: int | None = None
        self._under_way = threading.Lock()

    def pause(self) -> bool:
        """Wait until no transaction is under way and begin none; false inside one, or if it takes
        longer than a fork should."""
        inside = self._running == threading.get_ident()
        return not inside and self._under_way.acquire(timeout=FORK_WAIT_S)

    def go_on(self) -> None:
        """Begin transactions again."""
        self._under_way.release()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in its turn and return its result once it is committed.

        What `work` raises undoes its own writes only. It may run twice, the first time undone.
        """
        if self._running == threading.get_ident():
            raise StoreError("a write began inside another write", hint="finish the first one")
        if suspends():
            return self._handed_in(work)
        signal = threading.Event()
        job = _Job(work, signal)
        try:
            self._join(job)
            signal.wait()
            if not job.done:
                self._lead(job)
        finally:
            self._leave(job)
        return job.result()

    def _handed_in(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in its turn, its task suspended; a thread is borrowed if it is to lead."""
        ended: Future[None] = Future()
        job = _Job(work, _Bell(lambda: self._called(job, ended)))
        self._join(job)
        wait(ended, binding=True)
        return job.result()

    def _called(self, job: _Job[Any], ended: Future[None]) -> None:
        if job.done:
            ended.set_result(None)
        else:
            self._lend(lambda: self._led(job))

    def _led(self, job: _Job[Any]) -> None:
        try:
            self._lead(job)
        finally:
            self._leave(job)

    def _join(self, job: _Job[Any]) -> None:
        with self._mutex:
            self._queue.append(job)
            if self._leader is None:
                self._leader = job
                job.signal.set()

    def _leave(self, job: _Job[Any]) -> None:
        """Take a job out, done or interrupted, and hand on the lead if it had it."""
        with self._mutex:
            if not job.done and job in self._queue:
                self._queue.remove(job)
            if self._leader is job:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.signal.set()

    def _lead(self, job: _Job[Any]) -> None:
        # Signals interrupt the main thread wherever it is: it leads its own work alone.
        most = 1 if threading.current_thread() is threading.main_thread() else BATCH
        with self._mutex:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), most))]
        try:
            with self._under_way:
                self._running = threading.get_ident()
                if len(batch) == 1 or not self._together(batch):
                    for each in batch:
                        self._alone(each)
        finally:
            self._running = None
            for each in batch:
                each.end()

    def _together(self, batch: list[_Job[Any]]) -> bool:
        """Run a batch in one transaction; false if it came to nothing and each must run alone."""
        try:
            with self._begin() as connection:
                for job in batch:
                    job.attempt(connection)
        except Exception:  # noqa: BLE001  # each job meets its own error when it runs alone
            return False
        for job in batch:
            job.done = True
        return True

    def _alone(self, job: _Job[Any]) -> None:
        job.error = None
        try:
            with self._begin() as connection:
                job.value = job.work(connection)
        except Exception as error:  # noqa: BLE001  # it is its caller's
            job.error = error
        job.done = True


class _Signal(Protocol):
    def set(self) -> None: ...


class _Bell:
    """A signal that calls a function."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.set = ring


class _Job(Generic[T]):
    """One queued write and what became of it."""

    def __init__(self, work: Callable[[Connection], T], signal: _Signal) -> None:
        self.work = work
        self.signal = signal  # it is done, or its caller is to lead
        self.done = False
        self.value: T | None = None
        self.error: BaseException | None = None

    def attempt(self, connection: Connection) -> None:
        """Run the work in company: what it raises undoes its own writes only."""
        connection.exec_driver_sql("SAVEPOINT job")
        try:
            self.value = self.work(connection)
        except Exception as error:  # noqa: BLE001  # it is its caller's
            self.error = error
            # A full disk, say, has undone the whole transaction by now; then this raises too.
            connection.exec_driver_sql("ROLLBACK TO job")
        connection.exec_driver_sql("RELEASE job")

    def end(self) -> None:
        """Wake the caller."""
        if not self.done:  # the leader was interrupted
            self.error = StoreError(
                "the write was cut short, and whether it took effect is unknown",
                hint="read what is stored before writing again",
            )
            self.done = True
        self.signal.set()

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set wherever there is no error
