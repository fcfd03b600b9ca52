"""Twenty-one faults on each of three vendor APIs, through a whole agent: real SDKs over loopback."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from importlib import import_module
from typing import Any

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.errors import TurnError
from agentmesh.routing import Router, Rules
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator
from agentmesh.tools import tool

DEADLINE_S = 4.0
"""What no busy machine reaches by itself: only a fault that takes time does."""
LATE_S = 2.0
"""Ten times what a quiet machine needs beyond the deadline, for a busy one."""
TEXT = "Everything is fine with your parcel. " * 8
GOOD = "All is well."

FAULTS: dict[str, Answer] = {
    "overloaded": Answer(fault=Fault("status", status=529)),
    "server error": Answer(fault=Fault("status", status=500)),
    "unavailable": Answer(fault=Fault("status", status=503)),
    "rate limit": Answer(fault=Fault("status", status=429)),
    "rate limit, soon over": Answer(fault=Fault("status", status=429, retry_after_s=0.1)),
    "rate limit, not over in time": Answer(fault=Fault("status", status=429, retry_after_s=120)),
    "key refused": Answer(fault=Fault("status", status=401)),
    "request refused": Answer(fault=Fault("status", status=400)),
    "no such model": Answer(fault=Fault("status", status=404)),
    "reset": Answer(TEXT, fault=Fault("reset", after=0)),
    "reset in mid-stream": Answer(TEXT, fault=Fault("reset")),
    "cut stream": Answer(TEXT, fault=Fault("cut")),
    "error in mid-stream": Answer(TEXT, fault=Fault("error")),
    "drip": Answer(TEXT, fault=Fault("drip", delay_s=0.4)),
    "silence": Answer(TEXT, fault=Fault("delay", delay_s=30)),
    "tool call cut inside its arguments": Answer(
        "", [("refund", '{"order": "W1", "ce')], stop="length"
    ),
    "answer cut at the token limit": Answer(TEXT, stop="length"),
    "tool call cut after an argument": Answer("", [("refund", {"order": "W1"})], stop="length"),
    "unknown tool": Answer("", [("pay", {"order": "W1"})]),
    "arguments of the wrong type": Answer("", [("refund", {"order": "W1", "cents": "ten"})]),
    "empty": Answer(""),
}
APIS = {
    "messages": ("anthropic:claude-haiku-4-5", "anthropic:claude-opus-5-5"),
    "responses": ("openai:gpt-4.1-mini", "openai:gpt-4.1"),
    "chat": ("openai-compatible:small", "openai-compatible:large"),
}
RULE = """
[[rule]]
name = "refund"
kind = "tool"
any = ["refund"]
example = "refund it"
"""


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """Load the vendors' SDKs before any deadline runs."""
    for name in ("anthropic", "openai"):
        import_module(name)


def _streamed(agent: Agent) -> str:
    parts = list(agent.stream("Please refund my order W1.", session="s1"))
    return str(parts[-1].value)


def _awaited(agent: Agent) -> str:
    return asyncio.run(agent.ainvoke("Please refund my order W1.", session="s1")).text


class Desk:
    """An agent of two tiers at one vendor whose refunds are counted."""

    def __init__(self, api: str, server: Emulator, **arguments: Any) -> None:
        self.refunds = refunds = list[tuple[str, int]]()

        @tool(side_effect="external")
        def refund(order: str, cents: int = 5_000) -> str:
            """Pay an order back.

            Args:
                order: The order's number.
                cents: How much.
            """
            refunds.append((order, cents))
            return "paid"

        url = server.url if api == "messages" else server.openai_url
        small, large = (
            Tier(name, model, base_url=url, price=Price("1", "5"))
            for name, model in zip(("small", "large"), APIS[api], strict=True)
        )
        rules = Rules.parse(RULE)
        self.agent = Agent(
            "desk",
            "You are the desk of a shop.",
            tiers=[small, large],
            tools=[refund],
            router=Router(rules),
            deadline_s=DEADLINE_S,
            **arguments,
        )


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_every_tier_ends_the_turn_in_time_and_with_nothing_done(
    api: str, fault: str
) -> None:
    sent: Counter[str] = Counter()

    def failing(request: Request) -> Answer:
        sent[request.model] += 1
        return FAULTS[fault]

    with emulator(failing) as server:
        desk = Desk(api, server)
        began = time.monotonic()
        with pytest.raises(TurnError, match="no tier could answer"):
            (_awaited if len(fault) % 2 else _streamed)(desk.agent)
        took = time.monotonic() - began
    assert took < DEADLINE_S + LATE_S
    assert len(sent) == 2
    assert max(sent.values()) <= 3
    assert sum(sent.values()) <= 6
    assert desk.refunds == []
    assert desk.agent.memory.history("s1").entries()[-1].kind == "user"
    rows = desk.agent.memory.ledger.calls(session="s1")
    assert sum(sent.values()) <= len(rows) <= 6  # one may break before it is read
    assert not [row for row in rows if row.outcome == "ok"]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_small_tier_leaves_the_answer_to_the_large_one(api: str, fault: str) -> None:
    small = APIS[api][0].split(":")[1]
    sent: Counter[str] = Counter()

    def one_failing(request: Request) -> Answer:
        sent[request.model] += 1
        return FAULTS[fault] if request.model == small else Answer(GOOD)

    with emulator(one_failing) as server:
        desk = Desk(api, server)
        began = time.monotonic()
        assert _streamed(desk.agent) == GOOD
        assert time.monotonic() - began < DEADLINE_S + LATE_S
    assert sent[small] <= 3
    assert desk.refunds == []
    said = [e for e in desk.agent.memory.history("s1").entries() if e.kind == "assistant"]
    assert [entry.blocks[0]["text"] for entry in said] == [GOOD]


@pytest.mark.parametrize("api", APIS)
def test_what_passes_is_cured_by_waiting_as_long_as_the_vendor_asks(api: str) -> None:
    sent: list[float] = []

    def limited(request: Request) -> Answer:
        sent.append(time.monotonic())
        if len(sent) == 1:
            return Answer(fault=Fault("status", status=429, retry_after_s=0.3))
        return Answer(GOOD)

    with emulator(limited) as server:
        reply = Desk(api, server).agent.invoke("Please refund my order W1.", session="s1")
    assert (reply.text, len(sent)) == (GOOD, 2)
    assert sent[1] - sent[0] >= 0.3
    assert [call.outcome for call in reply.steps] == ["error:rate_limit", "ok"]


@pytest.mark.parametrize("api", APIS)
def test_an_answer_that_is_cut_everywhere_is_asked_for_in_fewer_words(api: str) -> None:
    asked: list[str] = []

    def long_winded(request: Request) -> Answer:
        asked.append(request.model)
        told = "say it in fewer words" in str(request.raw)
        return Answer(GOOD) if told else Answer(TEXT, stop="length")

    with emulator(long_winded) as server:
        reply = Desk(api, server).agent.invoke("Please refund my order W1.", session="s1")
    small, large = (name.split(":")[1] for name in APIS[api])
    assert (reply.text, asked) == (GOOD, [small, large, large])
    assert [call.outcome for call in reply.steps] == ["check:stop", "check:stop", "ok"]
    assert [m.text for m in reply.messages if m.type == "ai"] == [GOOD]
