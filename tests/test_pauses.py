"""A tool that itself asks a person, by LangGraph's interrupt: nothing is lost, nothing repeated."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import text

from agentmesh import Agent, Tier
from agentmesh.approvals import approvals
from agentmesh.errors import InputError
from agentmesh.memory import Memory
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import context, tool

done: list[str] = []
keys: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()
    keys.clear()


@tool(side_effect="external")
def book(seat: str) -> str:
    """Book a seat, and ask in what class."""
    done.append(f"held {seat}")
    keys.append(context().idempotency_key)
    travel_class = interrupt({"seat": seat, "ask": "which class?"})
    meal = interrupt("which meal?") if travel_class == "first" else "none"
    done.append(f"booked {seat} {travel_class} {meal}")
    return f"{seat} in {travel_class}, {meal}"


@tool(side_effect="external")
def mail(to: str) -> str:
    """Send a mail."""
    done.append(f"mailed {to}")
    return "sent"


@tool
def look() -> str:
    """Look at the seats."""
    done.append("looked")
    return "seats"


@tool(side_effect="external", approval="always")
def pay(cents: int) -> str:
    """Pay, in a currency that is asked for."""
    currency = interrupt("which currency?")
    done.append(f"paid {cents} {currency}")
    return f"paid in {currency}"


PLANS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Book": [("book", {"seat": "1a"})],
    "Three": [("book", {"seat": "1a"}), ("mail", {"to": "ann"}), ("look", {})],
    "Both": [("book", {"seat": "1a"}), ("book", {"seat": "2b"})],
    "Pay": [("pay", {"cents": 5}), ("mail", {"to": "ann"})],
    "Reserve": [("reserve", {"seat": "3c"})],
    "Rate": [("rate", {})],
    "Nested": [("nested", {})],
}


def brain(request: Request) -> Answer:
    if request.results:
        return Answer("Result: " + " | ".join(request.results))
    return Answer("", PLANS[request.user_text.split()[0]])


@pytest.fixture(scope="module")
def vendor() -> Iterator[Emulator]:
    with emulator(brain) as running:
        yield running


@pytest.fixture
def build(vendor: Emulator) -> Callable[..., Agent]:
    def make(*more: Any, **given: Any) -> Agent:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=vendor.url)]
        tools = [book, mail, look, pay, *more]
        return Agent("desk", "You book.", tools=tools, tiers=tiers, **given)

    return make


def ask(agent: Agent, words: str) -> Any:
    return agent.invoke(f"{words} my seat, please", user="u", session="s")


def resume(agent: Agent, answer: Any = None) -> Any:
    return agent.resume(answer, user="u", session="s", by="ann")


@pytest.mark.parametrize("saved", [False, True])
def test_the_answer_goes_to_the_tool_which_runs_again_from_its_start(
    build: Callable[..., Agent], saved: bool
) -> None:
    agent = build(checkpointer=InMemorySaver() if saved else None)
    asked = ask(agent, "Book")
    assert asked.interrupts == ({"seat": "1a", "ask": "which class?"},)
    assert asked.text == ""
    assert resume(agent, "first").interrupts == ("which meal?",)
    assert resume(agent, "fish").text == "Result: 1a in first, fish"
    assert done == ["held 1a"] * 3 + ["booked 1a first fish"]
    assert len(set(keys)) == 1  # what stands before a question is told by its key
    records = agent.memory.history("s").records()
    answers = [r for r in records if r.kind == "answer"]
    assert ['"by":"ann"' in r.body for r in answers] == [True, True]
    assert sum(r.kind == "tool" for r in records) == 1
    agent.memory.verify()


def test_another_process_asks_again_and_takes_the_answer(
    build: Callable[..., Agent], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    ask(build(memory=url), "Book")
    assert resume(build(memory=url)).interrupts == ({"seat": "1a", "ask": "which class?"},)
    assert done == ["held 1a"]  # to ask again runs nothing
    assert resume(build(memory=url), "second").text == "Result: 1a in second, none"


@pytest.mark.parametrize("awaits", [False, True])
def test_the_calls_beside_it_run_once(build: Callable[..., Agent], awaits: bool) -> None:
    agent = build()
    if awaits:

        async def both() -> Any:
            words = "Three my seat, please"
            assert (await agent.ainvoke(words, user="u", session="s")).interrupts
            return await agent.aresume("second", user="u", session="s")

        reply = asyncio.run(both())
    else:
        assert ask(agent, "Three").interrupts
        reply = resume(agent, "second")
    assert sorted(reply.text.removeprefix("Result: ").split(" | ")) == [
        "1a in second, none",
        "seats",
        "sent",
    ]
    assert sorted(done) == ["booked 1a second none", "held 1a", "held 1a", "looked", "mailed ann"]
    agent.memory.verify()


@pytest.mark.parametrize("saved", [False, True])
def test_two_calls_that_ask_are_asked_one_after_the_other(
    build: Callable[..., Agent], saved: bool
) -> None:
    agent = build(checkpointer=InMemorySaver() if saved else None)
    seats = []
    reply = ask(agent, "Both")
    for _ in range(2):
        (question,) = reply.interrupts
        seats.append(question["seat"])
        reply = resume(agent, f"class of {question['seat']}")
    assert sorted(seats) == ["1a", "2b"]
    assert "1a in class of 1a" in reply.text
    assert "2b in class of 2b" in reply.text
    assert len(done) == 6  # each held twice and booked once


@pytest.mark.parametrize("saved", [False, True])
def test_an_approval_is_not_taken_for_the_answer(build: Callable[..., Agent], saved: bool) -> None:
    agent = build(checkpointer=InMemorySaver() if saved else None)
    assert "action_requests" in ask(agent, "Pay").interrupts[0]
    assert resume(agent, "approve").interrupts == ("which currency?",)
    assert done == ["mailed ann"]
    assert "paid in euro" in resume(agent, "euro").text
    assert done == ["mailed ann", "paid 5 euro"]
    (said,) = approvals(agent.memory.history("s").records())
    assert said["decision"]["type"] == "approve"


def test_langgraphs_own_command_answers(build: Callable[..., Agent]) -> None:
    agent = build(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "s", "user": "u"}}
    given = {"messages": [("user", "Book my seat, please")]}
    asked = agent.graph.invoke(given, config)
    assert asked["__interrupt__"][0].value["ask"] == "which class?"
    ended = agent.graph.invoke(Command(resume="second"), config)
    assert ended["messages"][-1].text == "Result: 1a in second, none"


def test_a_tool_that_shares_the_transaction_has_written_nothing_before_the_answer(
    build: Callable[..., Agent],
) -> None:
    memory = Memory()
    with memory.database.engine.begin() as connection:
        connection.execute(text("create table seats (name text)"))

    @tool(side_effect="local", transaction=True)
    def reserve(seat: str) -> str:
        """Reserve a seat."""
        context().connection.execute(text("insert into seats values (:seat)"), {"seat": seat})
        return "reserved " + interrupt("sure?")

    def seats() -> list[str]:
        query = text("select name from seats")
        return list(memory.database.read(lambda c: c.execute(query).scalars().all()))

    agent = build(reserve, memory=memory)
    assert ask(agent, "Reserve").interrupts == ("sure?",)
    assert seats() == []
    assert resume(agent, "indeed").text == "Result: reserved indeed"
    assert seats() == ["3c"]
    memory.verify()


def test_a_wrong_answer_changes_nothing_and_can_be_given_again(
    build: Callable[..., Agent],
) -> None:
    @tool
    def rate() -> str:
        """Ask for a mark."""
        return f"rated {interrupt('1 to 5?', response_schema={'type': 'integer', 'maximum': 5})}"

    for saver in (None, InMemorySaver()):
        agent = build(rate, checkpointer=saver)
        assert ask(agent, "Rate").interrupts == ("1 to 5?",)
        if saver is None:
            with pytest.raises(InputError, match="no answer to what the tool asks"):
                resume(agent, 9)
        else:
            assert resume(agent, 9).interrupts == ("1 to 5?",)
        assert resume(agent, 4).text == "Result: rated 4"


def test_a_graph_within_a_tool_is_answered_too(build: Callable[..., Agent]) -> None:
    def node(state: MessagesState) -> dict[str, Any]:
        first, second = interrupt("first?"), interrupt("second?")
        return {"messages": [("ai", f"{first} and {second}")]}

    inner = StateGraph(MessagesState)
    inner.add_node("node", node)
    inner.add_edge(START, "node")
    graph: Any = inner.compile()

    @tool(side_effect="local")
    def nested() -> str:
        """Ask from within a graph."""
        return str(graph.invoke({"messages": [("user", "go")]})["messages"][-1].text)

    agent = build(nested)
    assert ask(agent, "Nested").interrupts == ("first?",)
    assert resume(agent, "one").interrupts == ("second?",)
    assert resume(agent, "two").text == "Result: one and two"


def test_a_new_message_takes_the_question_back(build: Callable[..., Agent]) -> None:
    agent = build()
    ask(agent, "Book")
    assert "Not completed" in ask(agent, "Look again for").text
    with pytest.raises(InputError, match="no unfinished turn"):
        resume(agent, "first")
    assert done == ["held 1a"]
    agent.memory.verify()


VICTIM = """
    import os, signal, sys
    from langgraph.types import interrupt
    from agentmesh import Agent, Tier
    from agentmesh.tools import tool

    url, database, effects, what = sys.argv[1:]

    @tool(side_effect="external")
    def book(seat: str) -> str:
        '''Book a seat, and ask in what class.'''
        travel_class = interrupt("which class?")
        with open(effects, "a") as file:
            file.write(travel_class)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return travel_class

    agent = Agent("desk", "You book.", tools=[book], memory=database,
                  tiers=[Tier("only", "anthropic:claude-opus-5-5", base_url=url)])
    if what == "ask":
        print(agent.invoke("Book my seat, please", user="u", session="s").interrupts)
    else:
        print(agent.resume("first" if what == "die" else None, user="u", session="s").text)
"""


def test_a_kill_after_the_answer_leaves_the_outcome_unknown_and_repeats_nothing(
    vendor: Emulator, tmp_path: Path
) -> None:
    script, effects = tmp_path / "victim.py", tmp_path / "effects"
    script.write_text(textwrap.dedent(VICTIM))
    line = [sys.executable, str(script), vendor.url, f"sqlite:///{tmp_path}/s.db", str(effects)]

    def run(what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*line, what], capture_output=True, text=True, check=False, timeout=120
        )

    assert "which class?" in run("ask").stdout
    assert run("die").returncode == -signal.SIGKILL
    assert "its outcome is unknown" in run("go").stdout
    assert effects.read_text() == "first"
