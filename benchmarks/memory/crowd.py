"""Many at once: sessions side by side, writers on one session, editors of one bucket."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentmesh.memory import Memory
from benchmarks.memory.turns import arun_turn, run_turn

SESSION_TURNS = 10
"""Turns after which a worker begins a new session."""


@dataclass
class Crowd:
    """What workers got done in a stretch of time."""

    turns_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def _worker(turn: Callable[[str, int], Any], name: str, until: float, out: list[Any]) -> None:
    n = 0
    while time.perf_counter() < until:
        session = f"{name}-{n // SESSION_TURNS}"
        began = time.perf_counter()
        try:
            turn(session, n)
            out.append(time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001  # counted, whatever it is
            out.append(repr(error))
        n += 1


def threads(
    turn: Callable[[str, int], Any], number: int, seconds: float, *, prefix: str = ""
) -> list[Any]:
    """Run workers as threads for some seconds; returns each turn's seconds or its error."""
    out: list[Any] = []
    until = time.perf_counter() + seconds
    workers = [
        threading.Thread(target=_worker, args=(turn, f"{prefix}w{n}", until, out))
        for n in range(number)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return out


def summary(out: list[Any], seconds: float) -> Crowd:
    """Sum up what the workers' turns took."""
    times = sorted(value for value in out if isinstance(value, float))
    errors = len(out) - len(times)
    if not times:
        return Crowd(0.0, 0.0, 0.0, errors)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return Crowd(len(times) / seconds, statistics.median(times) * 1e3, p99 * 1e3, errors)


def in_one_process(url: str, number: int, seconds: float) -> Crowd:
    """Measure sessions side by side in this process."""
    memory = Memory(url)
    run_turn(memory, 0, session="warm")
    out = threads(lambda session, n: run_turn(memory, n, session=session), number, seconds)
    memory.close()
    return summary(out, seconds)


def on_one_loop(url: str, number: int, seconds: float) -> Crowd:
    """Measure sessions side by side as tasks of one event loop."""
    memory = Memory(url)
    run_turn(memory, 0, session="warm")
    until = time.perf_counter() + seconds
    out: list[Any] = []

    async def worker(name: str) -> None:
        n = 0
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                await arun_turn(memory, n, session=f"{name}-{n // SESSION_TURNS}")
                out.append(time.perf_counter() - began)
            except Exception as error:  # noqa: BLE001  # counted, whatever it is
                out.append(repr(error))
            n += 1

    async def workers() -> None:
        await asyncio.gather(*(worker(f"w{n}") for n in range(number)))

    asyncio.run(workers())
    memory.close()
    return summary(out, seconds)


def in_processes(url: str, processes: int, each: int, seconds: float) -> Crowd:
    """Measure sessions side by side in several processes that share a database."""

    def work(rank: int, start: Any) -> list[Any]:
        memory = Memory(url)
        run_turn(memory, 0, session=f"warm{rank}")
        start.wait()
        out = threads(
            lambda session, n: run_turn(memory, n, session=session),
            each,
            seconds,
            prefix=f"p{rank}",
        )
        memory.close()
        return out

    return summary([one for part in forked(processes, work) for one in part], seconds)


def forked(processes: int, work: Callable[[int, Any], Any]) -> list[Any]:
    """Run `work(rank, barrier)` in forked processes and return what each returned."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(processes)
    queue: Any = context.SimpleQueue()

    def child(rank: int) -> None:
        try:
            queue.put((rank, work(rank, start)))
        except BaseException as error:  # noqa: BLE001  # told to the parent
            queue.put((rank, [repr(error)]))

    started = [context.Process(target=child, args=(rank,)) for rank in range(processes)]
    for process in started:
        process.start()
    results = dict(queue.get() for _ in started)
    for process in started:
        process.join()
    return [results[rank] for rank in range(processes)]


@dataclass
class Writers:
    """What became of turns that several writers made in one session."""

    asked: int
    stored: int
    errors: int
    turns_per_s: float

    @property
    def lost(self) -> int:
        """Turns that reported success and are not in the log."""
        return self.asked - self.errors - self.stored


def one_session(
    url: str, writers: int, turns: int, step: Callable[[], object] = lambda: None
) -> Writers:
    """Let threads write turns to one session, and count what its log holds afterwards."""
    memory = Memory(url)
    session = f"shared-{writers}"
    errors: list[str] = []

    def work(rank: int) -> None:
        for n in range(turns // writers):
            try:
                run_turn(memory, rank * 100_000 + n, session=session, roll=True)
            except Exception as error:  # noqa: BLE001  # counted, whatever it is
                errors.append(repr(error))
            step()

    pool = [threading.Thread(target=work, args=(rank,)) for rank in range(writers)]
    began = time.perf_counter()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    took = time.perf_counter() - began
    stored = sum(record.kind == "user" for record in memory.history(session).records())
    memory.verify(session)
    memory.close()
    asked = turns // writers * writers
    return Writers(asked, stored, len(errors), asked / took)


@dataclass
class Edits:
    """What became of compare-and-set edits that several processes made of one item."""

    asked: int
    counted: int
    versions: int
    errors: int
    edits_per_s: float


def one_bucket(url: str, writers: int, edits: int) -> Edits:
    """Let processes count up one item, and compare its value with what they asked for."""
    Memory(url).close()

    def work(_rank: int, start: Any) -> list[Any]:
        memory = Memory(url)
        bucket = memory.org("acme")
        bucket.get("n")
        start.wait()
        out: list[Any] = [time.monotonic()]
        for _ in range(edits):
            try:
                bucket.update("n", lambda n: (n or 0) + 1)
            except Exception as error:  # noqa: BLE001  # counted, whatever it is
                out.append(repr(error))
        memory.close()
        return [*out, time.monotonic()]

    found = [one for part in forked(writers, work) for one in part]
    errors = [one for one in found if isinstance(one, str)]
    stamps = [one for one in found if not isinstance(one, str)]
    took = max(stamps) - min(stamps)
    memory = Memory(url)
    counted = memory.org("acme").get("n", 0)
    versions = len(memory.org("acme").history("n"))
    memory.close()
    asked = writers * edits
    return Edits(asked, counted, versions, len(errors), asked / took)
