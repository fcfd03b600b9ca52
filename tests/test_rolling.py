"""A long session stays short, cheap and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError
from agentmesh.memory.compaction import Compaction
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator
from agentmesh.tools import tool

POLICY = "You are the desk of a shop. " * 100
TIGHT = Compaction(keep_turns=2, keep_tokens=200, digest_tokens=100, max_tokens=2_500)
digest_asked: list[str] = []


def brain(request: Request) -> Answer:
    if "about to be shortened" in request.user_text:
        digest_asked.append(request.user_text)
        numbers = re.findall(r"W\d+", request.system + " ".join(m.text for m in request.messages))
        return Answer("Orders spoken of: " + " ".join(dict.fromkeys(numbers)) + " </digest>")
    if request.results:
        return Answer("I found: " + request.results[-1][:300])
    if "recall" in request.user_text:
        return Answer("", [("recall", {"words": request.user_text.split()[-1]})])
    order = re.findall(r"W\d+", request.user_text)[-1]
    return Answer("I look.", [("look_up", {"order": order})])


@tool
def look_up(order: str) -> str:
    """Look up an order.

    Args:
        order: The order's number.
    """
    return f"{order} was packed by Nora on shelf {int(order[1:]) * 7}. " + "All is well. " * 12


@pytest.fixture
def server() -> Iterator[Emulator]:
    digest_asked.clear()
    with emulator(brain) as running:
        yield running


@pytest.fixture
def agent(server: Emulator) -> Agent:
    return build(server)


def build(server: Emulator, **arguments: Any) -> Agent:
    tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)]
    arguments = {"compaction": TIGHT, "tools": [look_up], **arguments}
    return Agent("desk", POLICY, tiers=tiers, **arguments)


def talk(agent: Agent, turns: int) -> None:
    for number in range(turns):
        agent.invoke(f"What about order W{number}?", user="u1", session="s1")


def test_the_prompt_stays_below_its_ceiling_and_the_log_stays_whole(agent: Agent) -> None:
    talk(agent, 30)
    calls = agent.memory.ledger.calls(session="s1")
    assert max(call.usage.input for call in calls if call.purpose == "act") <= 2_500
    assert sum(call.purpose == "digest" for call in calls) >= 2
    assert len(agent.memory.history("s1").entries()) == 30 * 4
    agent.memory.verify()


def test_a_digest_reads_the_cache_that_it_replaces(agent: Agent) -> None:
    talk(agent, 30)
    digests = [c for c in agent.memory.ledger.calls(session="s1") if c.purpose == "digest"]
    for call in digests:
        assert call.usage.read / call.usage.input > 0.8


def test_within_an_epoch_everything_written_before_is_read(agent: Agent) -> None:
    talk(agent, 30)
    calls = [c for c in agent.memory.ledger.calls(session="s1") if c.purpose == "act"]
    for before, after in pairwise(calls):
        if before.epoch == after.epoch:
            assert after.usage.read == before.usage.read + before.usage.write


def test_the_next_epoch_shows_the_digest_and_the_last_turns_word_for_word(agent: Agent) -> None:
    talk(agent, 30)
    call = [c for c in agent.memory.ledger.calls(session="s1") if c.purpose == "act"][-1]
    prompt = agent.memory.rebuild("s1", call)
    digest = next(segment.text for segment in prompt.segments if segment.name == "digest")
    assert "Orders spoken of: W0 W1" in digest
    assert digest.count("</digest>") == 1
    assert prompt.entries[0].kind == "user"
    calls = {b["id"] for e in prompt.entries for b in e.blocks if b["type"] == "call"}
    results = {b["id"] for e in prompt.entries for b in e.blocks if b["type"] == "result"}
    assert results <= calls


def test_recall_brings_a_passage_back_word_for_word(agent: Agent) -> None:
    talk(agent, 30)
    reply = agent.invoke("Please recall W3", user="u1", session="s1")
    assert "W3 was packed by Nora on shelf 21." in reply.messages[-2].text


def test_a_failing_digest_changes_nothing(server: Emulator) -> None:
    def failing(request: Request) -> Answer:
        if "about to be shortened" in request.user_text:
            return Answer(fault=Fault("status", status=400))
        return brain(request)

    with emulator(failing) as other:
        agent = build(other)
        talk(agent, 15)
        calls = agent.memory.ledger.calls(session="s1")
        assert {c.outcome for c in calls if c.purpose == "digest"} == {"error:invalid_request"}
        assert {c.epoch for c in calls} == {1}
        agent.memory.verify()


def test_without_compaction_the_log_grows_and_there_is_no_recall(server: Emulator) -> None:
    agent = build(server, compaction=None)
    talk(agent, 15)
    calls = agent.memory.ledger.calls(session="s1")
    assert {call.epoch for call in calls} == {1}
    assert digest_asked == []
    assert "recall" not in {spec.name for spec in agent.memory.rebuild("s1", calls[0]).tools}


def test_a_deploy_keeps_the_digest(server: Emulator) -> None:
    agent = build(server)
    talk(agent, 30)
    newer = Agent(
        "desk",
        POLICY + "Be brief.",
        tiers=[Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)],
        tools=[look_up],
        memory=agent.memory,
        compaction=TIGHT,
    )
    newer.invoke("What about order W99?", user="u1", session="s1")
    prompt = agent.memory.rebuild("s1", agent.memory.ledger.calls(session="s1")[-1])
    assert prompt.segments[0].text.count("Be brief.") == 1
    assert prompt.segments[-1].name == "digest"


@pytest.mark.parametrize("name", ["keep_turns", "keep_tokens", "digest_tokens", "max_tokens"])
def test_refuses_numbers_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0"):
        Compaction(**{name: 0})
