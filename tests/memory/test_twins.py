from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from agentmesh.errors import BusyError, ConflictError, InputError
from agentmesh.memory import Bucket, BucketStore, History, Ledger, Memory, Turn
from agentmesh.memory.conformance import CORE, call
from agentmesh.memory.database import THREADS
from agentmesh.memory.twins import run, suspends, twin, wait

PURE = {
    Memory: {"org", "profile", "task", "history", "live", "find", "release"},
    Turn: {"add", "catch_up", "close_unfinished", "frozen", "prompt", "record", "settle", "sha", "store"},
}  # fmt: skip
"""What neither reads nor writes, or does so on a connection that it is given."""

HI = [{"type": "text", "text": "hi"}]


def twins_of(kind: type) -> dict[str, str]:
    """Return what each public method's twin is to be called."""
    public = {n for n, m in vars(kind).items() if inspect.isfunction(m) and not n.startswith("_")}
    named = {n for n in public - PURE.get(kind, set()) if not asyncio.iscoroutinefunction(vars(kind)[n])}  # fmt: skip
    return {name: {"wait": "await_"}.get(name, f"a{name}") for name in named}


async def say(memory: Memory, text: str, *, session: str = "s1", user: str = "u1") -> None:
    blocks = [{"type": "text", "text": text}]
    turn = await memory.aopen_turn(session=session, user=user, agent="a", blocks=blocks)
    await turn.arecall(CORE)
    await turn.arefresh()
    call(turn)
    turn.add("assistant", [{"type": "text", "text": "yes"}])
    await turn.afinish()


def counted() -> int:
    return sum(t.name.startswith("agentmesh-memory") for t in threading.enumerate())


@pytest.mark.parametrize("kind", [Memory, Bucket, History, Ledger, Turn])
def test_every_method_has_its_twin(kind: type) -> None:
    names = twins_of(kind)
    assert len(names) >= 2
    for name, other in names.items():
        assert inspect.iscoroutinefunction(getattr(kind, other, None)), other
        assert inspect.signature(getattr(kind, other)) == inspect.signature(getattr(kind, name))
        assert getattr(kind, other).__doc__ == f"Do as `{name}`, without blocking the event loop."


def test_a_twin_takes_part_in_inheritance() -> None:
    class Loud(Bucket):
        def get(self, key: str, default: Any = None) -> Any:
            return str(super().get(key, default)).upper()

    memory = Memory("sqlite://")
    memory.profile("u1").set("language", "German")
    bucket = Loud(memory.database, tenant="default", kind="profile", owner="u1", limit=9, clock=time.time)  # fmt: skip
    assert asyncio.run(bucket.aget("language")) == "GERMAN"
    memory.close()


def test_sixty_four_sessions_on_one_event_loop(url: str) -> None:
    memory = Memory(url)
    most = 0

    async def session(number: int) -> None:
        nonlocal most
        for turn in range(3):
            await say(memory, str(turn), session=f"s{number}")
            most = max(most, counted())

    async def all_of_them() -> None:
        await asyncio.gather(*(session(number) for number in range(64)))

    asyncio.run(all_of_them())
    assert 1 <= most <= THREADS + 1
    assert memory.verify().calls == 192
    assert counted() >= 1
    memory.close()
    assert counted() == 0


def test_tasks_take_turns_at_one_session(memory: Memory) -> None:
    """More of them wait than there are threads: who waits holds none."""

    async def all_of_them() -> None:
        await asyncio.gather(*(say(memory, str(n)) for n in range(2 * THREADS)))

    asyncio.run(all_of_them())
    said = [e.blocks[0]["text"] for e in memory.history("s1").entries() if e.kind == "user"]
    assert said == [str(n) for n in range(2 * THREADS)]


def test_the_loop_goes_on_while_a_task_waits_for_a_session(memory: Memory) -> None:
    async def main() -> float:
        turn = await memory.aopen_turn(session="s1", user="u1", agent="a", blocks=HI)
        began = time.monotonic()
        with pytest.raises(BusyError):
            await memory.aopen_turn(session="s1", user="u1", agent="a", blocks=HI, wait_s=0.2)
        waited = asyncio.create_task(say(memory, "next"))
        await asyncio.sleep(0.05)
        assert not waited.done()
        await turn.afinish()
        await waited
        return time.monotonic() - began

    assert 0.2 < asyncio.run(main()) < 10
    assert len(memory.history("s1")) == 5


def test_threads_and_tasks_write_side_by_side(memory: Memory) -> None:
    bucket = memory.org("acme")

    def increment() -> None:
        for _ in range(20):
            bucket.update("n", lambda n: (n or 0) + 1)

    async def main() -> None:
        async def one() -> None:
            for _ in range(20):
                await bucket.aupdate("n", lambda n: (n or 0) + 1)

        await asyncio.gather(*(one() for _ in range(4)))

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(main())
    for thread in threads:
        thread.join()
    assert bucket.get("n") == 160


def test_errors_reach_the_task(memory: Memory) -> None:
    async def main() -> None:
        task = memory.task("s1")
        with pytest.raises(InputError, match="is not a key"):
            await task.aset("no key", 1)
        await task.aset("a", 1)
        with pytest.raises(ConflictError):
            await task.aset("a", 2, expect=0)
        assert await task.aget("a") == 1

    asyncio.run(main())


def test_a_store_is_read_and_written_by_tasks(memory: Memory) -> None:
    async def main() -> None:
        store = BucketStore(memory)
        await store.aput(("task", "s1"), "order", {"value": "#W23"})
        found = await store.aget(("task", "s1"), "order")
        assert found is not None
        assert found.value == {"value": "#W23"}
        assert [item.key for item in await store.asearch(("task",))] == ["order"]
        assert await store.alist_namespaces() == [("task", "s1")]
        await store.adelete(("task", "s1"), "order")
        assert await store.aget(("task", "s1"), "order") is None

    asyncio.run(main())


def hold_up(memory: Memory) -> tuple[threading.Thread, threading.Event, threading.Event]:
    """Begin a write that others wait for, and return it, what says that it runs and what ends it."""
    running, go = threading.Event(), threading.Event()

    def work(_: object) -> None:
        running.set()
        assert go.wait(10)

    thread = threading.Thread(target=lambda: memory.database.write(work))
    thread.start()
    assert running.wait(10)
    return thread, running, go


def test_a_cancelled_write_is_stored_whole(file_url: str) -> None:
    memory = Memory(file_url)

    async def main() -> None:
        thread, _, go = hold_up(memory)
        task = asyncio.create_task(memory.task("s1").aset("a", 1, expect=0))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()  # it is in the queue: its outcome will be known
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        thread.join()

    asyncio.run(main())
    assert memory.task("s1").get("a") == 1
    memory.close()


def test_a_turn_that_nobody_receives_is_given_back(file_url: str) -> None:
    memory = Memory(file_url)

    async def main() -> None:
        thread, _, go = hold_up(memory)
        opening = memory.aopen_turn(session="s1", user="u1", agent="a", blocks=HI)
        task = asyncio.create_task(opening)
        await asyncio.sleep(0.05)
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        thread.join()
        await asyncio.wait_for(say(memory, "again"), 10)

    asyncio.run(main())
    assert [r.kind for r in memory.history("s1").records()][:2] == ["user", "end"]
    assert memory.verify().calls == 1
    memory.close()


def test_who_waits_for_a_session_can_be_cancelled(memory: Memory) -> None:
    async def main() -> None:
        turn = await memory.aopen_turn(session="s1", user="u1", agent="a", blocks=HI)
        waiting = [asyncio.create_task(say(memory, str(n))) for n in range(4)]
        await asyncio.sleep(0.05)
        for task in waiting[:3]:
            task.cancel()
        done = await asyncio.gather(*waiting[:3], return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in done)
        await turn.afinish()
        await asyncio.wait_for(waiting[3], 10)

    asyncio.run(main())
    said = [e.blocks[0]["text"] for e in memory.history("s1").entries() if e.kind == "user"]
    assert said == ["hi", "3"]


def test_cancelling_at_any_moment_leaves_every_session_whole(memory: Memory) -> None:
    async def main() -> None:
        for number in range(40):
            task = asyncio.create_task(say(memory, str(number), session=f"s{number % 3}"))
            await asyncio.sleep(number * 0.0004)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for turn in list(memory._live.values()):  # as the agent does for the run that it ran
                await turn.aabandon()
        for number in range(3):
            await asyncio.wait_for(say(memory, "last", session=f"s{number}"), 10)

    asyncio.run(main())
    assert memory.verify().sessions == 3
    for name in memory.sessions():
        kinds = [record.kind for record in memory.history(name).records()]
        assert kinds.count("user") == kinds.count("end")
        assert kinds[-3:] == ["user", "assistant", "end"]


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "async.md"
    block = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(block, str(page), "exec"), {})  # the page's own text
    assert capsys.readouterr().out == "German\n{'value': 1}\n"


def test_a_second_cancellation_gets_through() -> None:
    never: Future[None] = Future()

    async def main() -> None:
        task = asyncio.create_task(run(lambda: wait(never, binding=True)))
        for _ in range(2):
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_wait_blocks_where_there_is_no_task() -> None:
    soon: Future[str] = Future()
    threading.Timer(0.02, soon.set_result, ["done"]).start()
    wait(soon, 0.0001)
    assert not soon.done()
    wait(soon)
    assert soon.result() == "done"
    assert not suspends()


def test_code_of_a_task_keeps_its_context_and_its_thread() -> None:
    name = contextvars.ContextVar("name", default="")

    class Host:
        def said(self, later: Future[None]) -> tuple[str, int, bool]:
            wait(later)
            return name.get(), threading.get_ident(), suspends()

        asaid = twin(said)

    async def main() -> None:
        later: Future[None] = Future()

        async def one(mine: str) -> tuple[str, int, bool]:
            name.set(mine)
            return await Host().asaid(later)

        tasks = [asyncio.create_task(one(mine)) for mine in "ab"]
        await asyncio.sleep(0)
        later.set_result(None)
        here = threading.get_ident()
        assert await asyncio.gather(*tasks) == [("a", here, True), ("b", here, True)]

    asyncio.run(main())
