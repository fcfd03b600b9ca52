"""Fan-out: parallel branches that share a cold prefix pay for one write of it."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from agentmesh import Agent, Tier
from agentmesh.errors import TurnError
from agentmesh.fanout import FanOut
from agentmesh.memory import Memory
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator

POLICY = "You are the desk of a shop. " * 250
SHARED = 1_700  # tokens of the instructions, and a little less
BRANCHES = 8

Build = Callable[..., Agent]


@pytest.fixture
def server() -> Iterator[Emulator]:
    brains = {
        "claude-opus-5-5": lambda request: Answer("An answer."),
        "gpt-6.1-sol": lambda request: Answer("An answer."),
        "gpt-4.1": lambda request: Answer("An answer."),
    }
    with emulator(brains, latency_s=0.3) as running:
        yield running


def make(server: Emulator, model: str = "anthropic:claude-opus-5-5", **arguments: Any) -> Agent:
    url = server.url if model.startswith("anthropic") else server.openai_url
    return Agent("desk", POLICY, tiers=[Tier("only", model, base_url=url)], **arguments)


def ask(agent: Agent, number: int) -> str:
    return agent.invoke(f"Question {number}?", user=f"u{number}", session=f"s{number}").text


def writes(server: Emulator) -> int:
    """Return how many calls paid for the shared layer."""
    return sum(bill.usage.input - bill.usage.read > SHARED for bill in server.bills)


@pytest.mark.parametrize(
    "model", ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai:gpt-4.1"]
)
def test_eight_parallel_sessions_write_the_shared_layer_once(server: Emulator, model: str) -> None:
    agent = make(server, model)
    with ThreadPoolExecutor(BRANCHES) as pool:
        answers = list(pool.map(lambda number: ask(agent, number), range(BRANCHES)))
    assert answers == ["An answer."] * BRANCHES
    assert writes(server) == 1
    assert len(server.bills) == BRANCHES
    assert sum(bill.stream for bill in server.bills) == 1  # the leader's: its first token counts


def test_eight_agents_that_know_nothing_of_each_other_write_it_eight_times() -> None:
    together = threading.Barrier(BRANCHES, timeout=60)

    def one(number: int) -> str:
        together.wait()
        return ask(agents[number], number)

    with emulator(lambda request: Answer("An answer."), latency_s=3.0) as server:
        agents = [make(server) for _ in range(BRANCHES)]
        with ThreadPoolExecutor(BRANCHES) as pool:
            list(pool.map(one, range(BRANCHES)))
        assert writes(server) == BRANCHES


def test_the_others_wait_for_the_first_token_and_no_longer() -> None:
    """The leader's answer drips in for a second; the others need not see its end."""
    began = time.monotonic()
    ended: dict[int, float] = {}

    def slow(request: Request) -> Answer:
        first = "Question 0?" in request.user_text
        return Answer("word " * 60, fault=Fault("drip", delay_s=0.05) if first else None)

    with emulator(slow) as server:
        agent = make(server)

        def one(number: int) -> None:
            time.sleep(0.2 if number else 0)
            ask(agent, number)
            ended[number] = time.monotonic() - began

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(4)))
        assert writes(server) == 1
    assert max(ended[number] for number in (1, 2, 3)) < ended[0]


def test_branches_of_a_langgraph_send_write_it_once(server: Emulator) -> None:
    class State(TypedDict):
        answers: Annotated[list[str], operator.add]

    agent = make(server)

    def branch(given: dict[str, Any]) -> dict[str, Any]:
        return {"answers": [ask(agent, given["number"])]}

    async def abranch(given: dict[str, Any]) -> dict[str, Any]:
        number = given["number"]
        reply = await agent.ainvoke(f"Question {number}?", user=f"u{number}", session=f"s{number}")
        return {"answers": [reply.text]}

    for node, run in ((branch, False), (abranch, True)):
        server.reset()
        agent = make(server)
        graph: Any = StateGraph(State)
        graph.add_node("branch", node)
        sends = [Send("branch", {"number": number}) for number in range(BRANCHES)]
        graph.add_conditional_edges(START, lambda state, sends=sends: sends, ["branch"])
        graph.add_edge("branch", END)
        compiled = graph.compile()
        given: Any = {"answers": []}
        out = asyncio.run(compiled.ainvoke(given)) if run else compiled.invoke(given)
        assert out["answers"] == ["An answer."] * BRANCHES
        assert writes(server) == 1


@pytest.mark.parametrize("fault", [Fault("status", status=401), Fault("cut", after=1)])
def test_a_leader_that_dies_frees_the_others(fault: Fault) -> None:
    """Every other one in turn leads and succeeds, or fails by itself; nobody waits for ever."""
    asked = 0

    def first_fails(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        return Answer("An answer.", fault=fault if asked == 1 else None)

    with emulator(first_fails, latency_s=0.1) as server:
        agent = make(server, fallback="Sorry.")
        with ThreadPoolExecutor(BRANCHES) as pool:
            done = list(pool.map(lambda number: ask(agent, number), range(BRANCHES)))
        died = 1 if fault.kind == "status" else 0  # a cut stream is tried again
        assert sorted(done) == ["An answer."] * (BRANCHES - died) + ["Sorry."] * died
        assert writes(server) == 1


def test_a_leader_that_is_cancelled_frees_the_others(server: Emulator) -> None:
    agent = make(server)

    async def run() -> list[str]:
        leader = asyncio.create_task(agent.ainvoke("Question?", session="lead"))
        await asyncio.sleep(0.1)
        others = [
            asyncio.create_task(agent.ainvoke(f"Question {n}?", session=f"s{n}")) for n in range(4)
        ]
        await asyncio.sleep(0.05)
        leader.cancel()
        done = await asyncio.wait_for(asyncio.gather(*others), 10)
        with pytest.raises(asyncio.CancelledError):
            await leader
        return [reply.text for reply in done]

    assert asyncio.run(run()) == ["An answer."] * 4


def test_nobody_waits_longer_than_the_limit_for_a_leader_that_hangs() -> None:
    fan_out, entered, leave = FanOut(wait_s=0.2), threading.Event(), threading.Event()

    def hang() -> None:
        with fan_out.passed(lambda: "core") as lead:
            assert lead is not None
            entered.set()
            leave.wait(10)

    async def other() -> Any:
        async with fan_out.apassed(lambda: "core") as lead:
            return lead

    thread = threading.Thread(target=hang)
    thread.start()
    entered.wait(10)
    start = time.monotonic()
    with fan_out.passed(lambda: "core") as lead:
        assert lead is None
    assert asyncio.run(other()) is None
    assert 0.35 < time.monotonic() - start < 5
    with fan_out.passed(lambda: "another prefix") as lead:
        assert lead is not None
    leave.set()
    thread.join()
    with fan_out.passed(lambda: "core") as lead:
        assert lead is not None


def test_an_error_in_the_leaders_turn_frees_the_others() -> None:
    with emulator(lambda request: Answer(fault=Fault("status", status=401))) as server:
        agent = make(server)
        for number in range(3):
            with pytest.raises(TurnError):
                ask(agent, number)


def test_a_warm_prefix_and_a_short_one_make_nobody_wait(server: Emulator) -> None:
    agent = make(server)
    ask(agent, 0)
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: ask(agent, number), range(1, 5)))
    assert writes(server) == 1
    assert [bill.stream for bill in server.bills] == [True] + [False] * 4
    assert time.monotonic() - start < 4 * 0.3 + 1
    server.reset()
    short = Agent(
        "short", "Answer.", tiers=[Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)]
    )
    short.invoke("Hello there!", session="t1")
    assert [bill.stream for bill in server.bills] == [False]


def test_another_process_learns_from_the_ledger_that_the_prefix_is_warm(
    server: Emulator, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    ask(make(server, memory=Memory(url)), 1)
    later = make(server, memory=Memory(url))
    ask(later, 1)
    ask(later, 2)
    assert [bill.stream for bill in server.bills] == [True, False, False]
    for call, bill in zip(later.memory.ledger.calls(), server.bills, strict=True):
        planned = {kind: call.planned.get(kind, 0) for kind in ("fresh", "read", "write")}
        billed = {kind: getattr(bill.usage, kind) for kind in planned}
        assert planned == billed
