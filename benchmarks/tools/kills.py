"""Kill turns at random moments, resume them, and count what was repeated, lost or left dangling.

Every victim is a process of its own, killed by SIGKILL; so is every fourth resumption. A call is
lost if its effect is not there and nothing in the log says that its outcome is unknown.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentmesh.memory import Memory
from agentmesh.memory.cluster import available, postgres
from agentmesh.testing import emulator
from benchmarks.tools import victims
from benchmarks.tools.figure import Figure, tell

PART = "kills"
AGAIN = 0.25
"""The share of resumptions that are killed too."""

POSTGRES = 0.25
"""The share of the kills that is made on PostgreSQL, where its programs are installed."""

_LIMIT_S = 120.0
_MEASURED = 5


@dataclass
class Tally:
    """What came of the kills of one design on one database."""

    kills: int = 0
    resumptions_killed: int = 0
    finished_before: int = 0
    repeated: int = 0
    lost: int = 0
    unknown_reported: int = 0
    dangling: int = 0
    unfinished: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Design:
    """How a turn runs, where it is kept, and how to look at what is left of it."""

    name: str
    target: Callable[..., None]
    database: str
    world: Path
    left: Callable[[str], tuple[Counter[tuple[str, str]], set[tuple[str, str]], int, bool]]
    """Of a session: effects in its database, calls reported unknown, dangling calls, finished."""


def measure(kills: int, peers: int, seed: int = 7) -> list[dict[str, Any]]:
    """Return what came of `kills` kills of ours (a share on PostgreSQL) and `peers` of the peer.

    A turn that was quicker than its killer is counted apart, as finished before.
    """
    share = 0 if available() else round(kills * POSTGRES)
    rows = []
    with tempfile.TemporaryDirectory() as name, emulator(victims.brain) as vendor:
        folder = Path(name)
        rows.append(
            _row(_ours(f"sqlite:///{folder}/own.db", folder), vendor.url, kills - share, seed)
        )
        if share:
            with postgres() as url:
                rows.append(_row(_ours(url, folder), vendor.url, share, seed + 1))
        rows.append(_row(_peer(folder), vendor.url, peers, seed + 2))
    return rows


def figures(rows: list[dict[str, Any]], kills: int) -> Iterator[Figure]:
    """Return the measure's rows; the last design is the peer, which has no target."""
    ours = rows[:-1]
    killed = sum(row["kills"] for row in ours)
    yield Figure(PART, "turns killed and resumed", killed, kills, at_most=False)
    for row in rows:
        target = 0 if row in ours else None
        note = f"of {row['kills']}, {row['resumptions_killed']} resumptions killed too"
        for what in ("repeated", "lost", "dangling"):
            yield Figure(PART, f"{row['design']}: {what}", row[what], target, note=note)
            note = ""
        unknown = f"{row['design']}: reported as unknown"
        yield Figure(PART, unknown, row["unknown_reported"])


def _row(design: Design, url: str, kills: int, seed: int) -> dict[str, Any]:
    chance, tally = random.Random(seed), Tally()
    whole = [_run(design, url, f"whole{n}", None)[1] for n in range(_MEASURED)]
    length = statistics.median(whole) * 1.1
    number = 0
    while tally.kills < kills and number < 3 * kills:
        session, number = f"s{number}", number + 1
        killed, _ = _run(design, url, session, chance.uniform(0, length))
        tally.kills += killed
        if killed and tally.kills % 25 == 0:
            tell(f"  {design.name}: {tally.kills} of {kills} kills")
        tally.finished_before += not killed
        while killed and chance.random() < AGAIN:
            killed, _ = _run(design, url, session, chance.uniform(0, length))
            tally.resumptions_killed += killed
        _run(design, url, session, None)
        _judge(design, session, tally)
    return {"design": design.name, "turn_s": round(statistics.median(whole), 3), **vars(tally)}


def _run(design: Design, url: str, session: str, after_s: float | None) -> tuple[bool, float]:
    """Run or resume a turn; returns whether it was killed, and how long it took from its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, victims.__name__])
    mine, theirs = context.Pipe(duplex=False)
    given = (theirs, url, design.database, str(design.world), session)
    victim = context.Process(target=design.target, args=given)
    victim.start()
    theirs.close()
    if not mine.poll(_LIMIT_S) or mine.recv() != "ready":
        raise RuntimeError(f"a victim of {design.name} did not start")
    began = time.perf_counter()
    victim.join(_LIMIT_S if after_s is None else after_s)
    if victim.is_alive():
        if after_s is None:
            raise RuntimeError(f"a turn of {design.name} did not end")
        victim.kill()
        victim.join()
    took = time.perf_counter() - began
    mine.close()
    if victim.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a victim of {design.name} failed with {victim.exitcode}")
    return victim.exitcode != 0, took


def _judge(design: Design, session: str, tally: Tally) -> None:
    with closing(sqlite3.connect(design.world, timeout=60)) as world:
        query = "select kind, name from effects where session = ?"
        seen = Counter(tuple(row) for row in world.execute(query, (session,)))
    own, unknown, dangling, finished = design.left(session)
    seen += own
    repeated = sum(count - 1 for count in seen.values())
    lost = sum(1 for effect in victims.EFFECTS if effect not in seen and effect not in unknown)
    tally.repeated += repeated
    tally.lost += lost
    tally.unknown_reported += len(unknown)
    tally.dangling += dangling
    tally.unfinished += not finished
    if (repeated or lost or dangling) and len(tally.examples) < 5:
        tally.examples.append(f"{session}: repeated {repeated}, lost {lost}, dangling {dangling}")


def _world(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as world:
        world.execute("pragma journal_mode=wal")
        world.execute("create table effects (session, kind, name, key)")
    return path


def _ours(url: str, folder: Path) -> Design:
    kind = url.split(":")[0].split("+")[0]
    memory = Memory(url)
    with memory.database.engine.begin() as connection:
        connection.execute(text("create table own_books (session text, name text)"))
    memory.close()

    def left(session: str) -> tuple[Counter[tuple[str, str]], set[tuple[str, str]], int, bool]:
        with _opened(url) as memory:
            memory.verify(session)
            records = memory.history(session).records()
            query = text("select name from own_books where session = :session")
            rows = memory.database.read(lambda c: c.execute(query, {"session": session}).all())
            calls = {b["id"]: b for r in records if r.kind == "assistant" for b in _calls(r)}
            results = Counter(b["id"] for r in records if r.kind == "tool" for b in r.entry.blocks)
            unknown = {
                (b["name"], _order(calls[b["id"]]))
                for r in records
                if r.kind == "tool"
                for b in r.entry.blocks
                if b["error"] and "outcome is unknown" in b["text"]
            }
            dangling = sum(results[call] != 1 for call in calls)
            ends = [r for r in records if r.kind == "end"]
            own = Counter(("book", str(row[0])) for row in rows)
            return own, unknown, dangling, len(ends) == 1 and '"status":"done"' in ends[0].body

    return Design(f"AgentMesh on {kind}", victims.ours, url, _world(folder / f"{kind}.world"), left)


def _peer(folder: Path) -> Design:
    path = folder / "peer.db"

    def left(session: str) -> tuple[Counter[tuple[str, str]], set[tuple[str, str]], int, bool]:
        from langgraph.checkpoint.sqlite import SqliteSaver

        with closing(sqlite3.connect(path)) as connection:
            found = SqliteSaver(connection).get({"configurable": {"thread_id": session}})
        messages = found["channel_values"].get("messages", []) if found else []
        calls = [call["id"] for m in messages for call in getattr(m, "tool_calls", ())]
        results = Counter(getattr(m, "tool_call_id", "") for m in messages)
        done = bool(messages) and messages[-1].text == "Done."
        return Counter(), set(), sum(results[call] != 1 for call in calls), done

    world = _world(folder / "peer.world")
    return Design("LangGraph on SqliteSaver", victims.peer, str(path), world, left)


@contextmanager
def _opened(url: str) -> Iterator[Memory]:
    memory = Memory(url)
    try:
        yield memory
    finally:
        memory.close()


def _calls(record: Any) -> list[dict[str, Any]]:
    return [block for block in record.entry.blocks if block["type"] == "call"]


def _order(call: dict[str, Any]) -> str:
    return str(json.loads(call["arguments"]).get("order", ""))
