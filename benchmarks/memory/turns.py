"""A whole turn as the graph makes it, without a model: the unit of all measures here."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentmesh.memory import Core, Memory, Turn
from agentmesh.memory.conformance import MODEL, call
from agentmesh.prompt import Prompt, ToolSpec

CORE = Core(
    tuple(ToolSpec(f"tool_{i}", "Does a thing. " * 8, '{"type":"object"}') for i in range(8)),
    "You are the support desk. " * 120,
)
ASK_CHARS, ANSWER_CHARS = 200, 400

_letters = random.Random(7)
TEXT = "".join(_letters.choices("abcdefghijklmno pqrstuvwxyz", k=100_000))


def words(chars: int, at: int) -> str:
    """Return some text that differs with `at` and that no database compresses away."""
    start = at * 7919 % (len(TEXT) - chars)
    return TEXT[start : start + chars]


def run_turn(
    memory: Memory, at: int, *, session: str = "s1", user: str = "u1", roll: bool = False
) -> Prompt:
    """Run one turn: admit, recall, render, one instant model call, commit."""
    asked = [{"type": "text", "text": words(ASK_CHARS, at)}]
    turn = memory.open_turn(session=session, user=user, agent="bench", blocks=asked)
    turn.recall(CORE)
    if roll and at % 10 == 0:
        _compact(turn)
    turn.refresh()
    prompt = call(turn, tail="it is noon")
    turn.add("assistant", [{"type": "text", "text": words(ANSWER_CHARS, at + 1)}])
    turn.finish()
    return prompt


async def arun_turn(memory: Memory, at: int, *, session: str = "s1", user: str = "u1") -> Prompt:
    """Run one turn as `run_turn` does, on an event loop."""
    asked = [{"type": "text", "text": words(ASK_CHARS, at)}]
    turn = await memory.aopen_turn(session=session, user=user, agent="bench", blocks=asked)
    await turn.arecall(CORE)
    await turn.arefresh()
    prompt = call(turn, tail="it is noon")
    turn.add("assistant", [{"type": "text", "text": words(ANSWER_CHARS, at + 1)}])
    await turn.afinish()
    return prompt


HIGH_TOKENS = 20_000
"""From how many tokens on the log is compacted, as the graph does with a real model's prices."""


def _compact(turn: Turn) -> None:
    """Cut the log to its last turns if it has grown beyond the mark."""
    shown = turn.view.shown
    if sum(entry.tokens for entry in shown) > HIGH_TOKENS:
        base = max(entry.seq for entry in shown if entry.turn <= turn.number - 10)
        turn.begin_epoch(CORE, "compaction", base=base, digest=words(1_600, turn.number))


def written() -> int:
    """Return how many bytes this process has passed to `write` so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar"):
            return int(line.split()[1])
    raise OSError("/proc/self/io has no wchar")


def resident() -> float:
    """Return this process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@dataclass
class Window:
    """What the turns of one stretch of a session cost."""

    turns: int
    kilobytes: float
    milliseconds: float
    cpu_ms: float


@dataclass
class Growth:
    """How a session's cost grows with its length."""

    windows: dict[int, Window] = field(default_factory=dict)
    database_mb: float = 0.0
    resident_mb: float = 0.0

    def ratio(self, of: str) -> float:
        """Return the last window's figure over the first one's."""
        values = [getattr(window, of) for window in self.windows.values()]
        return float(values[-1] / values[0])


def grow(
    turn: Callable[[int], Any],
    bytes_so_far: Callable[[], int],
    *,
    marks: list[int],
    window: int,
    size_mb: Callable[[], float],
    size_at: int = 1_000,
    step: Callable[[], object] = lambda: None,
) -> Growth:
    """Run a session up to the last mark, measuring the `window` turns that begin at each mark.

    A window is long enough for its share of SQLite's checkpoints. `step` is called after each turn.
    """
    growth = Growth()
    wall: list[float] = []
    cpu: list[float] = []
    before, base = 0, 0.0
    last = marks[-1] + window
    for n in range(1, last + 1):
        if n == marks[0]:
            base = resident()
        if n in marks:
            wall, cpu, before = [], [], bytes_so_far()
        began, busy = time.perf_counter(), time.thread_time()
        turn(n)
        wall.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - busy)
        step()
        if n + 1 - window in marks:
            growth.windows[n + 1 - window] = Window(
                len(wall),
                (bytes_so_far() - before) / len(wall) / 1024,
                statistics.median(wall) * 1_000,
                statistics.median(cpu) * 1_000,
            )
        if n == min(size_at, last):
            growth.database_mb = size_mb()
            growth.resident_mb = resident() - base
    return growth


def folder_mb(path: Path) -> Callable[[], float]:
    """Return a function that tells the size of all files in a folder."""
    return lambda: sum(file.stat().st_size for file in path.iterdir()) / 1e6


def wal_bytes(memory: Memory) -> Callable[[], int]:
    """Return a function that tells how much log a PostgreSQL server has written."""
    query = text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
    return lambda: int(memory.database.read(lambda c: c.execute(query).scalar_one()))


def server_mb(memory: Memory) -> Callable[[], float]:
    """Return a function that tells the size of the tables on a PostgreSQL server."""
    query = text("SELECT pg_database_size(current_database())")
    return lambda: memory.database.read(lambda c: c.execute(query).scalar_one()) / 1e6


def render_ms(memory: Memory, *, tokens: int = 40_000, times: int = 200) -> float:
    """Return the median milliseconds of a prompt whose newest entry alone is new."""
    turn = memory.open_turn(
        session="long", user="u1", agent="bench", blocks=[{"type": "text", "text": "begin"}]
    )
    turn.recall(CORE)
    at = 0
    while sum(entry.tokens for entry in turn.view.shown) < tokens:
        at += 1
        turn.add("assistant" if at % 2 else "tool", [{"type": "text", "text": words(400, at)}])
    turn.flush()
    turn.sha(turn.prompt(MODEL))
    taken = []
    for n in range(times):
        turn.add("tool", [{"type": "text", "text": words(40, n)}])
        began = time.perf_counter()
        turn.sha(turn.prompt(MODEL))
        taken.append(time.perf_counter() - began)
    turn.finish()
    return statistics.median(taken) * 1_000


def edit_in_mid_session(memory: Memory) -> dict[str, Any]:
    """Edit a profile between two calls: how many earlier bytes move, and who sees it when."""
    from agentmesh.memory.render import prefix_text

    for n in range(20):
        before = prefix_text(run_turn(memory, n, session="edited"))
    memory.profile("u1").set("language", "Portuguese", source="user")
    prompt = run_turn(memory, 21, session="edited")
    after = prefix_text(prompt)
    same = 0
    while same < len(before) and before[same] == after[same]:
        same += 1
    note = next(entry for entry in prompt.entries if entry.kind == "note")
    return {
        "bytes changed before the edit": len(before) - same,
        "visible to the next call": "Portuguese" in note.blocks[0]["text"],
        "tokens of the note": note.tokens,
    }
