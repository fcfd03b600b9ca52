from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from agentmesh.errors import InputError, StoreError
from agentmesh.memory.database import Database


@pytest.fixture
def database(file_url: str) -> Iterator[Database]:
    database = Database(file_url)
    database.write(lambda c: c.execute(text("CREATE TABLE t (who TEXT, n INTEGER)")))
    yield database
    database.close()


def insert(who: str, n: int = 0) -> Callable[[Connection], None]:
    return lambda c: (
        c.execute(text("INSERT INTO t VALUES (:who, :n)"), {"who": who, "n": n}) and None
    )


def rows(database: Database) -> list[str]:
    return list(database.read(lambda c: c.execute(text("SELECT who FROM t")).scalars()))


class _Held:
    """Keeps the leader busy until released, so that others queue behind it."""

    def __init__(self, database: Database) -> None:
        self._inside, self._go = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.done = self._pool.submit(database.write, self._work)
        assert self._inside.wait(10)

    def _work(self, connection: Connection) -> None:
        self._inside.set()
        assert self._go.wait(10)
        insert("leader")(connection)

    def release(self) -> None:
        self._go.set()
        self.done.result()
        self._pool.shutdown()


def _queued(database: Database, n: int) -> None:
    deadline = time.monotonic() + 10
    while len(database._group._queue) < n:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _fails(connection: Connection) -> None:
    insert("failed")(connection)
    raise InputError("no")


def test_an_error_undoes_its_own_writes_only(database: Database) -> None:
    held = _Held(database)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(database.write, work) for work in (insert("a"), _fails, insert("b"))]
        _queued(database, 3)
        held.release()
        assert [type(job.exception()) for job in jobs] == [type(None), InputError, type(None)]
    assert sorted(rows(database)) == ["a", "b", "leader"]


def test_writes_are_made_in_order_of_arrival(database: Database) -> None:
    held = _Held(database)
    with ThreadPoolExecutor(200) as pool:
        for n in range(200):
            pool.submit(database.write, insert(str(n)))
            _queued(database, n + 1)
        held.release()
    assert rows(database) == ["leader", *map(str, range(200))]


def test_a_batch_that_fails_as_a_whole_is_run_one_by_one(database: Database) -> None:
    def undone(connection: Connection) -> None:
        insert("undone")(connection)
        connection.exec_driver_sql("ROLLBACK")  # what SQLite itself does when its disk is full
        raise StoreError("the disk is full")

    held = _Held(database)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(database.write, work) for work in (insert("a"), undone, insert("b"))]
        _queued(database, 3)
        held.release()
        assert [type(job.exception()) for job in jobs] == [type(None), StoreError, type(None)]
    assert sorted(rows(database)) == ["a", "b", "leader"]


def test_an_interrupted_leader_stops_nobody_else(database: Database) -> None:
    held = _Held(database)

    def interrupted(connection: Connection) -> None:
        insert("interrupted")(connection)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(database.write, interrupted)
        _queued(database, 1)
        others = [pool.submit(database.write, insert(who)) for who in "ab"]
        _queued(database, 3)
        held.release()
        assert isinstance(first.exception(), KeyboardInterrupt)
        for other in others:  # in its batch: told, not left waiting and not interrupted
            assert isinstance(other.exception(), StoreError)
    assert rows(database) == ["leader"]
    database.write(insert("next"))
    assert rows(database) == ["leader", "next"]


def test_an_interrupted_waiter_leaves_the_queue(database: Database) -> None:
    """Ctrl-C in the main thread while it waits: its write is not made, and the rest go on."""
    held = _Held(database)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    def interrupt() -> None:
        _queued(database, 1)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            database.write(insert("main"))
        after = pool.submit(database.write, insert("after"))
        _queued(database, 1)
        held.release()
        after.result(10)
    signal.signal(signal.SIGINT, usual)
    assert rows(database) == ["leader", "after"]


def test_a_write_inside_a_write_is_refused(database: Database) -> None:
    with pytest.raises(StoreError, match="inside another write"):
        database.write(lambda c: database.write(insert("inner")))
    database.write(insert("after"))
    assert rows(database) == ["after"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads is the point
def test_a_forked_child_writes_by_itself(database: Database) -> None:
    held = _Held(database)
    threading.Timer(0.2, held._go.set).start()
    child = os.fork()  # waits for the write that is under way
    if child == 0:
        signal.alarm(20)  # ends a child that hangs
        database.write(insert("child"))
        os._exit(0 if "leader" in rows(database) else 1)
    database.write(insert("parent"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.release()
    assert sorted(rows(database)) == ["child", "leader", "parent"]


def test_a_full_disk_leaves_nothing_half_written(database: Database) -> None:
    with database.alone() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit = f"PRAGMA max_page_count={pages + 8}"

    def large(connection: Connection) -> None:
        connection.exec_driver_sql(limit)
        for _ in range(100):
            insert("x" * 1_000)(connection)

    with pytest.raises(StoreError, match="full") as caught:
        database.write(large)
    assert caught.value.hint == "free some space"
    assert rows(database) == []


def test_a_read_only_database_says_so(database: Database, file_url: str) -> None:
    path = database.url.database
    readonly = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert readonly.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one()) == 0
    with pytest.raises(StoreError, match="read-only"):
        readonly.write(insert("x"))
    readonly.close()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite:////nowhere/at/all.db", "cannot be opened"),
        ("sqlite:////etc/passwd", "no database"),
    ],
)
def test_a_wrong_file_says_so(url: str, match: str) -> None:
    database = Database(url)
    with pytest.raises(StoreError, match=match) as caught:
        database.read(lambda c: c.execute(text("SELECT * FROM sqlite_master")))
    assert caught.value.hint
    database.close()
