"""Makes a memory of very many calls: the support desk's own, multiplied in the database."""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, select

from agentmesh import Tier
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
