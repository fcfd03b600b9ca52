"""The ledger's cause of each miss, beside the vendor's own word on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh import Agent, Budget, Tier
from agentmesh.audit.accounts import add_up, explain
from agentmesh.audit.prompts import sent
from agentmesh.economy.misses import Cause, agrees
from agentmesh.memory import Core, Memory
from agentmesh.testing import Answer, Emulator, Request, emulator

POLICY = "You are the desk of a shop. " * 250
LONG = "Tell me more about it, at length. " * 40


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator(lambda request: Answer("An answer. " * 30)) as running:
        yield running


def agent_on(server: Emulator, memory: Memory, *, policy: str = POLICY, **more: object) -> Agent:
    tier = Tier("only", "anthropic:claude-opus-5-5", base_url=server.url, diagnose=True)
    return Agent("desk", policy, tiers=[tier], memory=memory, **more)  # type: ignore[arg-type]


def words(memory: Memory) -> list[tuple[Cause | None, str]]:
    """Return for each call of the session our cause of its miss, and the vendor's."""
    made = sent(memory, "s1", memory.ledger.calls(session="s1"))
    ours = {found.made.call.id: found.miss.cause for found in explain(made)}
    return [(ours.get(m.call.id), str(m.call.decision.get("vendor_miss", ""))) for m in made]


def test_a_log_that_only_grows_is_missed_by_neither(server: Emulator) -> None:
    memory = Memory()
    agent = agent_on(server, memory)
    for _ in range(4):
        agent.invoke(LONG, session="s1")
    assert words(memory) == [("first visit", ""), (None, ""), (None, ""), (None, "")]


def test_the_vendor_asked_in_the_first_process_only_says_so(server: Emulator) -> None:
    memory = Memory()
    agent_on(server, memory).invoke(LONG, session="s1")
    agent = agent_on(server, memory, policy=POLICY + "Be brief.")
    agent.invoke(LONG, session="s1")  # this process knows no message before it
    assert words(memory)[-1] == ("instructions", "")


def test_a_memory_fold_is_what_the_vendor_calls_a_changed_system(server: Emulator) -> None:
    """The epoch's begin is asked for here as a compaction does it, within one process."""
    memory = Memory()
    agent = agent_on(server, memory)
    agent.invoke(LONG, session="s1")
    memory.profile("anonymous").set("name", "Ann")
    turn = memory.open_turn(session="s1", user="anonymous", agent="desk", blocks=[])
    turn.begin_epoch(Core(turn.epoch.tools, turn.epoch.core), "request")
    turn.finish()
    agent.invoke(LONG, session="s1")
    assert words(memory)[-1] == ("memory fold", "system_changed")


def test_without_being_told_to_nothing_is_asked_of_a_proxy(server: Emulator) -> None:
    memory = Memory()
    tier = Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)
    assert not tier.diagnosed
    assert Tier("only", "anthropic:claude-opus-5-5", api_key="k").diagnosed
    assert Tier("only", "openai:gpt-6.1-sol", api_key="k").diagnosed
    assert not Tier("only", "openai:gpt-4.1", api_key="k", diagnose=True).diagnosed
    url = "http://127.0.0.1:9/v1"
    assert not Tier("only", "openai-compatible:gpt-6.1-sol", base_url=url, diagnose=True).diagnosed
    asked: list[object] = []

    def brain(request: Request) -> Answer:
        asked.append(request.raw.get("diagnostics"))
        return Answer("Yes.")

    with emulator(brain) as other:
        tier = Tier("only", "anthropic:claude-opus-5-5", base_url=other.url)
        Agent("desk", POLICY, tiers=[tier], memory=memory).invoke("Hello?", session="s1")
    assert asked == [None]


def test_openai_is_asked_to_compare_with_the_response_before(server: Emulator) -> None:
    memory, url = Memory(), server.openai_url
    tier = Tier("only", "openai:gpt-6.1-sol", base_url=url, api_key="k", diagnose=True)
    agent = Agent("desk", POLICY, tiers=[tier], memory=memory)
    for _ in range(3):
        agent.invoke(LONG, session="s1")
    assert words(memory) == [("first visit", ""), (None, ""), (None, "")]
    memory.profile("anonymous").set("name", "Ann")
    turn = memory.open_turn(session="s1", user="anonymous", agent="desk", blocks=[])
    turn.begin_epoch(Core(turn.epoch.tools, turn.epoch.core), "request")
    turn.finish()
    agent.invoke(LONG, session="s1")
    assert words(memory)[-1] == ("memory fold", "input_changed")
    assert add_up(memory).vendor == (1, 1)


def test_a_vendors_setting_is_named_where_the_prompt_did_not_change() -> None:
    assert agrees("settings", "reasoning_effort_changed")
    assert agrees("memory fold", "system_changed")
    assert agrees("ttl", "tools_changed") is False
    assert agrees("ttl", "previous_message_not_found") is None


@pytest.mark.parametrize("vendor", ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol"])
def test_a_clock_that_goes_backwards_loses_no_call_and_no_explanation(
    server: Emulator, vendor: str
) -> None:
    now = 1_800_000_000.0
    memory = Memory(clock=lambda: now)
    url = server.url if vendor.startswith("anthropic:") else server.openai_url
    tier = Tier("only", vendor, base_url=url, api_key="k")
    budget = Budget(day_usd=5.0, user_usd=5.0)
    for step in (60.0, 60.0, -7_200.0, 60.0, -90_000.0, 60.0):
        now += step
        agent = Agent("desk", POLICY, tiers=[tier], memory=memory, budget=budget)
        assert agent.invoke(LONG, session="s1").text  # each in a process of its own, as it were
    calls = memory.ledger.calls()
    assert [call.cost for call in calls] == [bill.cost_micro for bill in server.bills]
    assert len(calls) == 6
    report = add_up(memory)
    assert report.total.cost == sum(bill.cost_micro or 0 for bill in server.bills)
    assert set(report.waste) == {"first visit"}
    assert sum(day.calls for day in report.by["day"].values()) == 6
