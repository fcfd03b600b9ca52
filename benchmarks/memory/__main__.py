"""Print memory's measures, next to LangGraph's SqliteSaver in the same run.

    python -m benchmarks.memory [--json] [--quick] [--edits 1000] [--turns 10000]
        [--only growth,crowd,writers,edits,render]

SQLite files lie in a temporary folder; PostgreSQL is a private server where its programs are
installed, or AGENTMESH_TEST_POSTGRES. Times depend on the machine and its load, which is printed;
ratios and bytes do not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from agentmesh.memory import Memory
from agentmesh.memory.cluster import available, postgres
from benchmarks.memory import crowd, peer, turns

PARTS = ("growth", "crowd", "writers", "edits", "render")


@dataclass
class Run:
    """The size of a run, where it writes, and what it has found."""

    quick: bool
    edits: int
    turns: int
    folder: Path
    server: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def sqlite(self, name: str) -> str:
        """Return the URL of a new file, in a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        return f"sqlite:///{folder}/memory.db"

    @contextmanager
    def postgres(self, name: str) -> Iterator[str]:
        """Give the URL of a new schema on the server."""
        from sqlalchemy import create_engine, text

        engine = create_engine(self.server)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        yield f"{self.server}{'&' if '?' in self.server else '?'}options=-csearch_path%3D{name}"
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show how far a measure is, on a terminal; gives what to call after each step."""
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
            task = shown.add_task(what, total=total)
            yield lambda: shown.advance(task)

    def add(self, what: str, where: str, value: Any, target: str = "", met: Any = None) -> None:
        """Note a figure and show it."""
        row = {"measure": what, "where": where, "value": value, "target": target, "met": met}
        self.rows.append(row)
        shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        print(f"  {what:<48} {where:<32} {shown:>14}  {target:<12} {verdict}", flush=True)

    def most(self, what: str, where: str, value: float, limit: float, unit: str = "") -> None:
        """Note a figure that may be at most so large."""
        self.add(what, where, value, f"<= {limit:,g}{unit}", met=value <= limit)

    def least(self, what: str, where: str, value: float, limit: float) -> None:
        """Note a figure that shall be at least so large."""
        self.add(what, where, value, f">= {limit:,g}", met=value >= limit)


def growth(run: Run) -> None:
    """Measure one session of 2,000 turns."""
    marks = [10, 200] if run.quick else [10, 700, 2_000]
    url = run.sqlite("growth")
    memory = Memory(url)
    window = 60 if run.quick else 500
    with run.bar("turns on SQLite", marks[-1] + window) as step:
        grown = turns.grow(
            lambda n: turns.run_turn(memory, n, roll=True),
            turns.written,
            marks=marks,
            window=window,
            size_mb=turns.folder_mb(run.folder / "growth"),
            step=step,
        )
    memory.close()
    _windows(run, "SQLite", grown)
    last = f"turn {marks[-1]} over turn {marks[0]}"
    run.most(f"bytes written, {last}", "SQLite", grown.ratio("kilobytes"), 1.10)
    run.most(f"CPU time, {last}", "SQLite", grown.ratio("cpu_ms"), 1.25)
    run.most(f"milliseconds, {last}", "SQLite", grown.ratio("milliseconds"), 1.25)
    run.most("KB written per turn", "SQLite", max(_column(grown, "kilobytes")), 25, " KB")
    run.most("milliseconds per turn", "SQLite", max(_column(grown, "milliseconds")), 5, " ms")
    run.most("database after 1,000 turns, MB", "SQLite", grown.database_mb, 6, " MB")
    run.most("growth of resident memory, MB", "SQLite", grown.resident_mb, 5, " MB")
    if run.server:
        with run.postgres("growth") as url:
            _growth_on_postgres(run, url, marks)
    if not peer.missing():
        folder = run.folder / "peer"
        folder.mkdir()
        turn = peer.turn_of(peer.graph(folder / "peer.db"))
        marks = [10, 60] if run.quick else [10, 200, 500]
        with run.bar("turns on LangGraph's SqliteSaver", marks[-1] + 8) as step:
            there = turns.grow(
                lambda n: turn("s1", n),
                turns.written,
                marks=marks,
                window=8,
                size_mb=turns.folder_mb(folder),
                step=step,
            )
        _windows(run, "LangGraph SqliteSaver", there)
        run.add("database after its turns, MB", "LangGraph SqliteSaver", there.database_mb)


def _growth_on_postgres(run: Run, url: str, marks: list[int]) -> None:
    memory, window = Memory(url), 60 if run.quick else 500
    with run.bar("turns on PostgreSQL", marks[-1] + window) as step:
        grown = turns.grow(
            lambda n: turns.run_turn(memory, n, roll=True),
            turns.wal_bytes(memory),
            marks=marks,
            window=window,
            size_mb=turns.server_mb(memory),
            step=step,
        )
    memory.close()
    _windows(run, "PostgreSQL", grown)
    run.most("KB of WAL per turn", "PostgreSQL", max(_column(grown, "kilobytes")), 2.5, " KB")
    run.most("bytes, last over first", "PostgreSQL", grown.ratio("kilobytes"), 1.10)
    run.most("milliseconds per turn", "PostgreSQL", max(_column(grown, "milliseconds")), 10, " ms")
    run.most("CPU time, last over first", "PostgreSQL", grown.ratio("cpu_ms"), 1.25)


def _windows(run: Run, where: str, grown: turns.Growth) -> None:
    for mark, window in grown.windows.items():
        run.add(f"KB written per turn at turn {mark}", where, window.kilobytes)
        run.add(f"milliseconds per turn at turn {mark}", where, window.milliseconds)
        run.add(f"CPU ms per turn at turn {mark}", where, window.cpu_ms)


def _column(grown: turns.Growth, name: str) -> list[float]:
    return [getattr(window, name) for window in grown.windows.values()]


def sessions_at_once(run: Run) -> None:
    """Measure 64 sessions side by side."""
    seconds = 1.5 if run.quick else 5.0
    one = crowd.in_one_process(run.sqlite("crowd"), 64, seconds)
    _crowd(run, "SQLite, 1 process x 64", one, 450, 250)
    loop = crowd.on_one_loop(run.sqlite("loop"), 64, seconds)
    _crowd(run, "SQLite, 64 on one event loop", loop, 450, 250)
    many = crowd.in_processes(run.sqlite("processes"), 4, 16, seconds)
    _crowd(run, "SQLite, 4 processes x 16", many, 700, 800)
    if run.server:
        with run.postgres("crowd") as url:
            there = crowd.in_one_process(url, 64, seconds)
        _crowd(run, "PostgreSQL, 1 process x 64", there, 400, 300)
        with run.postgres("loop") as url:
            there = crowd.on_one_loop(url, 64, seconds)
        _crowd(run, "PostgreSQL, 64 on one event loop", there, 400, 300)
    if not peer.missing():
        turn = peer.turn_of(peer.graph(run.folder / "crowd.db"))
        turn("warm", 0)
        there = crowd.summary(crowd.threads(turn, 64, seconds), seconds)
        for name, value in asdict(there).items():
            run.add(name, "LangGraph, 1 process x 64", value)
        run.add("turns per second, ours over it", "SQLite", one.turns_per_s / there.turns_per_s)


def _crowd(run: Run, where: str, found: crowd.Crowd, rate: float, p99: float) -> None:
    run.least("turns per second", where, found.turns_per_s, rate)
    run.add("median ms", where, found.p50_ms)
    run.most("p99 ms", where, found.p99_ms, p99, " ms")
    run.most("errors", where, found.errors, 0)


def writers(run: Run) -> None:
    """Measure writers on one session."""
    number = 300 if run.quick else run.turns
    url = run.sqlite("writers")
    for count in (2, 8, 64):
        with run.bar(f"turns of {count} writers", number // 3) as step:
            found = crowd.one_session(url, count, number // 3, step)
        place = f"SQLite, {count} writers"
        run.most(f"turns lost of {found.asked:,}", place, found.lost, 0)
        run.most("errors", place, found.errors, 0)
        run.add("turns per second", place, found.turns_per_s)
    if run.server:
        with run.postgres("writers") as url:
            found = crowd.one_session(url, 8, number // 10)
        run.most(f"turns lost of {found.asked:,}", "PostgreSQL, 8 writers", found.lost, 0)
        run.most("errors", "PostgreSQL, 8 writers", found.errors, 0)
    if not peer.missing():
        asked, there = peer.one_session(run.folder / "lost.db", 8, 80)
        run.add(f"turns lost of {asked}", "LangGraph, 8 writers", asked - there)


def edits(run: Run) -> None:
    """Measure processes that edit one item by compare-and-set."""
    count, each = (8, 25) if run.quick else (32, run.edits)
    _edits(run, f"SQLite, {count} processes", crowd.one_bucket(run.sqlite("edits"), count, each))
    if run.server:
        with run.postgres("edits") as url:
            _edits(run, f"PostgreSQL, {count} processes", crowd.one_bucket(url, count, each))


def _edits(run: Run, where: str, found: crowd.Edits) -> None:
    run.most(f"edits lost of {found.asked:,}", where, found.asked - found.counted, 0)
    run.most("edits without their version", where, found.asked - found.versions, 0)
    run.most("errors that reached a caller", where, found.errors, 0)
    run.add("edits per second", where, found.edits_per_s)


def render(run: Run) -> None:
    """Measure a long prompt with one new entry, and an edit in mid-session."""
    memory = Memory(run.sqlite("render"))
    run.most("render at 40k tokens, one new entry, ms", "", turns.render_ms(memory), 2, " ms")
    edited = turns.edit_in_mid_session(memory)
    moved = edited["bytes changed before the edit"]
    run.most("bytes changed before an edit in mid-session", "", moved, 0)
    seen = edited["visible to the next call"]
    run.add("the edit is visible to the next call", "", seen, "True", met=seen)
    run.most("tokens of the note", "", edited["tokens of the note"], 60)
    memory.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--edits", type=int, default=1_000, help="edits of each of 32 processes")
    parser.add_argument("--turns", type=int, default=10_000, help="turns of all writers together")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    given = parser.parse_args()
    parts = dict(zip(PARTS, (growth, sessions_at_once, writers, edits, render), strict=True))
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        why = available()
        print(peer.missing() or "with LangGraph's SqliteSaver", "|", why or "with PostgreSQL")
        server = "" if why else stack.enter_context(postgres())
        run = Run(given.quick, given.edits, given.turns, folder, server)
        loads = [os.getloadavg()[0]]
        for name in given.only.split(","):
            print(f"{name} ({parts[name].__doc__})  load {os.getloadavg()[0]:.1f}", flush=True)
            parts[name](run)
            loads.append(os.getloadavg()[0])
    if given.json:
        print(json.dumps({**machine, "load": loads, "rows": run.rows}))


if __name__ == "__main__":
    main()
