"""Select and export many calls with the command itself: seconds and memory at two sizes.

The calls are the support desk's own, made once by the agent and multiplied in the database; what
is measured runs in a fresh process each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, select

from agentmesh.examples.customer_support.brains import BRAINS
from agentmesh.examples.customer_support.demo import FLAGSHIP, Clock, decide
from agentmesh.examples.customer_support.desk_agent import support_agent
from agentmesh.examples.customer_support.school import gate
from agentmesh.examples.customer_support.shop import generate, write
from agentmesh.examples.customer_support.tools import desk as open_desk
from agentmesh.examples.customer_support.traffic import traffic
from agentmesh.memory import Memory, tables
from agentmesh.testing import emulator

REQUESTS = 120
SIZES = (10_000, 100_000)


def run(most: int) -> Iterator[dict[str, Any]]:
    """Yield one result per command and size, up to `most` calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for calls in sorted({min(size, most) for size in SIZES}):
            url = f"sqlite:///{folder}/{calls}.db"
            _apart(url, str(calls))  # a process of its own: a child starts at its size
            for command, more in (("select", ()), ("export", (str(folder / "train.jsonl"),))):
                yield {"command": command, **_measured(command, *more, "--db", url)}


def _measured(command: str, *more: str) -> dict[str, Any]:
    """Run `agentmesh distill COMMAND` and return its calls, seconds and peak of memory."""
    arguments = [sys.executable, "-m", "agentmesh", "distill", command, *more, "--json"]
    if command == "export":
        arguments += ["--permission", "the owner of these calls"]
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = json.loads(child.stdout.read())
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if child.returncode:
        sys.exit(f"agentmesh distill {command} failed")
    chosen = told["reasons"].values() if command == "export" else (row["calls"] for row in told)
    return {
        "calls": sum(chosen),
        "seconds": seconds,
        "processor s": usage.ru_utime + usage.ru_stime,
        "peak MB": usage.ru_maxrss / 1_024,
    }


def _apart(*arguments: str) -> None:
    module = [sys.executable, "-m", "benchmarks.distill.scale"]
    subprocess.run([*module, *arguments], check=True)


def fill(url: str, calls: int) -> None:
    """Let the support desk answer some requests, and multiply their rows to at least `calls`."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, closing(Memory(url, clock=clock)) as memory:
        _serve(memory, clock, Path(folder))
        made = memory.database.read(
            lambda c: c.execute(select(func.count()).select_from(tables.calls)).scalar_one()
        )
        for copy in range(1, -(-calls // made)):
            _copy(memory, copy)


def _serve(memory: Memory, clock: Clock, folder: Path) -> None:
    from agentmesh import Tier

    shop = generate(7, customers=600)
    asked = traffic(shop, requests=REQUESTS, seed=7)
    url = write(shop, folder / "shop.db")
    with (
        emulator(BRAINS, clock=clock) as server,
        closing(open_desk(url, clock=clock.date)) as desk,
        support_agent(
            desk,
            [Tier("flagship", FLAGSHIP, base_url=server.url, api_key="emulator")],
            memory=memory,
            router=gate(),
        ) as agent,
    ):
        for inquiry in asked.inquiries:
            clock.now = inquiry.at
            one = {"user": inquiry.user, "session": inquiry.session}
            reply = agent.invoke(inquiry.text, **one)
            while reply.interrupts:
                reply = agent.resume(decide(reply.interrupts), **one)
            reply.feedback(score=1.0)


def _copy(memory: Memory, copy: int) -> None:
    """Add all first rows once more, under session ids, names and users of their own."""

    def work(c: Any) -> None:
        last = c.execute(select(func.max(tables.sessions.c.id)).where(_first)).scalar_one()
        shift = copy * (last + 1)
        named = {
            "name": tables.sessions.c.name + f"/{copy}",
            "user": tables.sessions.c.user + f"/{copy}",
        }
        _add(c, tables.sessions, {"id": tables.sessions.c.id + shift, **named}, _first)
        for table in (tables.epochs, tables.entries, tables.calls, tables.feedback):
            changed: dict[str, Any] = {"session_id": table.c.session_id + shift}
            if "user" in table.c:
                changed["user"] = table.c.user + f"/{copy}"
            _add(c, table, changed, table.c.session_id <= last)

    memory.database.write(work)


_first = ~tables.sessions.c.name.contains("/")
"""Which sessions the desk itself made."""


def _add(c: Any, table: Table, changed: dict[str, Any], where: Any) -> None:
    names = [name for name in table.c.keys() if name != "id" or "id" in changed]  # noqa: SIM118
    rows = select(*(changed.get(name, table.c[name]) for name in names)).where(where)
    c.execute(insert(table).from_select(names, rows))


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))
