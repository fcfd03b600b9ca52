"""The ledger's cause of each miss, beside the vendor's own word on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh import Agent, Tier
from agentmesh.audit.accounts import explain
from agentmesh.audit.prompts import sent
from agentmesh.economy.misses import Cause
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
    assert not Tier("only", "openai:gpt-6.1-sol", api_key="k", diagnose=True).diagnosed
    asked: list[object] = []

    def brain(request: Request) -> Answer:
        asked.append(request.raw.get("diagnostics"))
        return Answer("Yes.")

    with emulator(brain) as other:
        tier = Tier("only", "anthropic:claude-opus-5-5", base_url=other.url)
        Agent("desk", POLICY, tiers=[tier], memory=memory).invoke("Hello?", session="s1")
    assert asked == [None]
