"""Tools whose writes and results are stored in one transaction of the memory's database."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from langchain_core.tools import BaseTool
from langgraph.prebuilt import InjectedState
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError, StoreError
from agentmesh.memory import Memory
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import catalogue, context, run_call, tool


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "own_bookings"
    key: Mapped[str] = mapped_column(primary_key=True)
    seat: Mapped[str]


@tool(side_effect="local", transaction=True)
def book(seat: str) -> str:
    """Book a seat."""
    with Session(context().connection) as session:
        session.add(Booking(key=context().idempotency_key, seat=seat))
        session.commit()
    if seat == "bad":
        raise ValueError("no such seat")
    return f"booked {seat}"


def booking(request: Request) -> Answer:
    if request.results:
        return Answer("Result: " + " | ".join(request.results))
    return Answer("", [("book", {"seat": seat}) for seat in request.user_text.split()[1:]])


@pytest.fixture
def vendor() -> Iterator[Emulator]:
    with emulator(booking) as running:
        yield running


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    memory = Memory(url)
    Base.metadata.create_all(memory.database.engine)
    yield memory
    memory.close()


def _agent(vendor: Emulator, memory: Memory) -> Agent:
    tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
    return Agent("desk", "You book.", tools=[book], tiers=tiers, memory=memory)


def _seats(memory: Memory) -> list[str]:
    query = text("select seat from own_bookings order by seat")
    return list(memory.database.read(lambda c: c.execute(query).scalars().all()))


@pytest.mark.parametrize("awaits", [False, True])
def test_writes_are_stored_with_the_result(vendor: Emulator, memory: Memory, awaits: bool) -> None:
    agent = _agent(vendor, memory)
    said = "Book 1a 2b"
    reply = (
        asyncio.run(agent.ainvoke(said, user="u", session="s"))
        if awaits
        else agent.invoke(said, user="u", session="s")
    )
    told = reply.text.removeprefix("Result: ").split(" | ")
    assert sorted(told) == ["booked 1a", "booked 2b"]  # they run beside each other
    assert _seats(memory) == ["1a", "2b"]
    kinds = [record.kind for record in memory.history("s").records()]
    assert "intent" not in kinds  # what is not stored has not happened: nothing to announce
    memory.verify()


def test_a_failure_undoes_the_writes_and_is_told(vendor: Emulator, memory: Memory) -> None:
    reply = _agent(vendor, memory).invoke("Book 1a bad", user="u", session="s")
    assert "booked 1a" in reply.text
    assert "no such seat" in reply.text
    assert _seats(memory) == ["1a"]
    memory.verify()


def test_a_turn_that_lost_its_lease_stores_neither(
    vendor: Emulator, memory: Memory, url: str
) -> None:
    @tool(side_effect="local", transaction=True)
    def steal(seat: str) -> str:
        """Book a seat, while somebody else takes the session over."""
        connection = context().connection
        connection.execute(text("insert into own_bookings values ('k', '9z')"))
        connection.execute(text("update sessions set fence = fence + 1"))
        return "booked"

    def brain(request: Request) -> Answer:
        return Answer("", [("steal", {"seat": "9z"})])

    with emulator(brain) as other:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=other.url)]
        agent = Agent("desk", "You book.", tools=[steal], tiers=tiers, memory=memory)
        with pytest.raises(StoreError):
            agent.invoke("Book 9z", user="u", session="s")
    assert _seats(memory) == []


def test_outside_of_a_turn_there_is_no_connection() -> None:
    result = run_call(book, "c", {"seat": "1a"})
    assert result.error
    assert "shares no transaction" in result.text


def test_only_a_plain_function_can_share_a_transaction() -> None:
    @tool(transaction=True)
    async def later(seat: str) -> str:
        """Book."""
        return seat

    @tool(transaction=True)
    def injected(seat: str, state: Annotated[dict[str, object], InjectedState]) -> str:
        """Book."""
        return seat

    for wrong in (later, injected):
        with pytest.raises(ConfigError, match="cannot share a transaction"):
            catalogue([wrong])


def test_a_write_of_its_own_within_the_transaction_is_refused_at_once(memory: Memory) -> None:
    @tool(side_effect="local", transaction=True)
    def note(text: str) -> str:
        """Note something by the wrong way."""
        memory.profile("u").set("note", text, source="agent")
        return "noted"

    def brain(request: Request) -> Answer:
        return (
            Answer(request.results[0]) if request.results else Answer("", [("note", {"text": "x"})])
        )

    with emulator(brain) as vendor:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
        agent = Agent("desk", "You note.", tools=[note], tiers=tiers, memory=memory)
        reply = agent.invoke("Note x, please", user="u", session="s")
    assert "a write began inside another write" in reply.text
    memory.profile("u").set("note", "y", source="user")
    memory.verify()


def _slow(hangs: Callable[[], object]) -> BaseTool:
    @tool(side_effect="local", transaction=True, timeout_s=0.3)
    def hold(seat: str) -> str:
        """Hold a seat, and hang."""
        with Session(context().connection) as session:
            session.add(Booking(key=context().idempotency_key, seat=seat))
            session.flush()
            hangs()
            session.commit()
        return f"held {seat}"

    return hold


def _holding(request: Request) -> Answer:
    if request.results:
        return Answer("Result: " + " | ".join(request.results))
    return Answer("", [("hold", {"seat": "1a"}), ("book", {"seat": "2b"})])


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@pytest.mark.parametrize("how", ["asleep", "in a query"])
def test_a_tool_that_hangs_is_given_up_and_what_it_wrote_is_undone(
    memory: Memory, how: str
) -> None:
    ended: list[object] = []

    def hangs() -> None:
        connection = context().connection
        try:
            if how == "asleep":
                time.sleep(0.8)
                connection.execute(text("insert into own_bookings values ('late', '9z')"))
            elif memory.database.is_sqlite:
                connection.execute(text(ENDLESS))
            else:
                connection.execute(text("select pg_sleep(600)"))
        except BaseException as error:
            ended.append(error)
            raise

    with emulator(_holding) as vendor:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
        tools = [_slow(hangs), book]
        agent = Agent("desk", "You book.", tools=tools, tiers=tiers, memory=memory)
        reply = agent.invoke("Book 1a 2b", user="u", session="s")
    assert "'hold' did not answer within 0.3 s, and what it wrote is undone" in reply.text
    assert "booked 2b" in reply.text
    for _ in range(400):  # the tool that was left behind meets its end by itself
        if ended:
            break
        time.sleep(0.05)
    assert ended
    if how == "asleep":  # on PostgreSQL each write has a connection of its own
        told = "is over" if memory.database.is_sqlite else "is closed"
        assert told in str(ended[0])
    assert _seats(memory) == ["2b"]
    memory.profile("u").set("still", "writing", source="user")
    memory.verify()


def test_a_result_that_is_too_long_is_read_on_by_its_handle(memory: Memory) -> None:
    @tool(side_effect="local", transaction=True, max_chars=300)
    def report() -> str:
        """Report at length."""
        context().connection.execute(text("insert into own_bookings values ('r', '7r')"))
        return "".join(f"line {number}\n" for number in range(500))

    def brain(request: Request) -> Answer:
        if not request.results:
            return Answer("", [("report", {})])
        handle = re.search(r'recall\(handle="(\w+)"\) reads all', request.results[0])
        if handle:
            return Answer("", [("recall", {"handle": handle[1], "offset": 3_000})])
        return Answer(request.results[0])

    with emulator(brain) as vendor:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
        agent = Agent("desk", "You report.", tools=[report], tiers=tiers, memory=memory)
        reply = agent.invoke("Report, please", user="u", session="s")
    assert "line 499" in reply.text
    assert _seats(memory) == ["7r"]
    memory.verify()


VICTIM = """
    import os, signal, sys
    from sqlalchemy import text
    from agentmesh import Agent, Tier
    from agentmesh.tools import context, tool

    url, database, what = sys.argv[1:]

    @tool(side_effect="local", transaction=True)
    def book(seat: str) -> str:
        '''Book a seat.

        Args:
            seat: Which.
        '''
        values = {"key": context().idempotency_key, "seat": seat}
        context().connection.execute(text("insert into own_bookings values (:key, :seat)"), values)
        if what == "die" and seat == "2b":
            os.kill(os.getpid(), signal.SIGKILL)
        return "booked " + seat

    agent = Agent("desk", "You book.", tools=[book], memory=database,
                  tiers=[Tier("only", "anthropic:claude-opus-5-5", base_url=url)])
    if what == "die":
        agent.invoke("Book 1a 2b 3c", user="u", session="s")
    print(agent.resume(user="u", session="s").text)
"""


def test_a_kill_between_write_and_result_leaves_neither(
    vendor: Emulator, memory: Memory, url: str, tmp_path: Path
) -> None:
    script = tmp_path / "victim.py"
    script.write_text(textwrap.dedent(VICTIM))
    line = [sys.executable, str(script), vendor.url, url]
    died = subprocess.run([*line, "die"], capture_output=True, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert "2b" not in _seats(memory)
    done = subprocess.run([*line, "go"], capture_output=True, text=True, check=True, timeout=120)
    told = done.stdout.strip().removeprefix("Result: ").split(" | ")
    assert sorted(told) == ["booked 1a", "booked 2b", "booked 3c"]  # they run beside each other
    assert _seats(memory) == ["1a", "2b", "3c"]
    memory.verify()
