"""What a tier and a tool may see is declared, and what was seen can be rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh import Agent, Tier, canonical
from agentmesh.errors import ConfigError
from agentmesh.memory import Call, Memory, View
from agentmesh.memory.epochs import Epoch
from agentmesh.memory.render import ViewHash, prompt_sha
from agentmesh.prompt import Entry, Marks, Segment
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import context, declaration, tool

POLICY = "You are the desk of a shop. " * 120


def brain(request: Request) -> Answer:
    if "look" in request.user_text and not request.results:
        return Answer("", [("who", {})])
    return Answer("It was: " + (request.results or ["nothing"])[-1])


@tool(sees={"profile"})
def who(bucket: str = "profile") -> str:
    """Say who asks.

    Args:
        bucket: Where to look.
    """
    return str(context().facts(bucket).get("name"))


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with emulator(brain) as running:
        yield running


def build(server: Emulator, view: View | None, memory: Memory | None = None) -> Agent:
    tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=server.url, view=view)]
    return Agent("desk", POLICY, tiers=tiers, tools=[who], memory=memory or "sqlite://")


def talk(agent: Agent, turns: int) -> list[Call]:
    for number in range(turns):
        if number % 3 == 1:
            agent.memory.profile("u1").set("visits", number, source="user")
            agent.memory.task("s1").set("order", f"W{number}")
        agent.invoke(f"Question {number}?", user="u1", session="s1")
    return agent.memory.ledger.calls(session="s1")


def seen(agent: Agent, call: Call) -> str:
    prompt = agent.memory.rebuild("s1", call)
    parts = [segment.text for segment in prompt.segments]
    return "\n".join(parts + [entry.body for entry in prompt.entries])


def test_a_bucket_that_is_hidden_is_hidden_in_the_prefix_and_in_the_notes(
    server: Emulator,
) -> None:
    agent = build(server, View(profile=False))
    agent.memory.profile("u1").set("name", "Ann", source="user")
    calls = talk(agent, 6)
    for call in calls:
        assert "Ann" not in seen(agent, call)
        assert "visits" not in seen(agent, call)
    assert "task.order" in seen(agent, calls[-1])
    agent.memory.verify()


def test_a_window_moves_in_steps_and_between_two_steps_the_prompt_only_grows(
    server: Emulator,
) -> None:
    agent = build(server, View(history_turns=6))
    calls = talk(agent, 20)
    first = []
    for call in calls:
        turns = {e.turn for e in agent.memory.rebuild("s1", call).entries if e.kind != "note"}
        assert len(turns) <= 6
        assert max(turns) == call.turn
        first.append(min(turns))
    assert first == sorted(first)
    assert len(set(first)) == 6
    for (before, after), (old, new) in zip(pairwise(calls), pairwise(first), strict=True):
        if old == new:
            assert after.usage.read == before.usage.read + before.usage.write
    agent.memory.verify()


def test_an_edit_made_before_the_window_is_still_seen(server: Emulator) -> None:
    agent = build(server, View(history_turns=2))
    agent.invoke("Hello?", user="u1", session="s1")
    agent.memory.profile("u1").set("name", "Ann", source="user")
    for _ in range(8):
        agent.invoke("And now?", user="u1", session="s1")
    assert 'profile.name: \\"Ann\\"' in seen(agent, agent.memory.ledger.calls(session="s1")[-1])


def test_tiers_with_other_views_share_one_log(server: Emulator) -> None:
    memory = Memory()
    student, teacher = build(server, View(history_turns=2), memory), build(server, None, memory)
    for number in range(5):
        for agent in (student, teacher):
            agent.invoke(f"Question {number}?", user="u1", session="s1")
    calls = memory.ledger.calls(session="s1")
    assert "Question 0?" in seen(teacher, calls[-1])
    assert "Question 0?" not in seen(student, calls[-2])
    assert memory.verify().calls == 10


def test_a_view_that_hides_nothing_changes_no_byte(server: Emulator) -> None:
    plain, viewed = build(server, None), build(server, View())
    assert [c.prompt_sha for c in talk(plain, 3)] == [c.prompt_sha for c in talk(viewed, 3)]
    assert [c.marks for c in talk(plain, 1)] == [c.marks for c in talk(viewed, 1)]


def test_a_tool_reads_the_buckets_that_it_was_declared_to_see(server: Emulator) -> None:
    agent = build(server, None)
    agent.memory.profile("u1").set("name", "Ann", source="user")
    assert agent.invoke("Please look", user="u1", session="s1").text == "It was: Ann"
    assert agent.invoke("Please look", user="u2", session="s2").text == "It was: None"
    with pytest.raises(ConfigError, match="sees cannot be"):
        tool(sees={"history"})
    assert declaration(who).sees == {"profile"}


def test_a_tool_that_was_not_declared_to_see_a_bucket_is_refused() -> None:
    @tool
    def peek() -> str:
        """Look where it may not."""
        return str(context().facts("profile"))

    def ask(request: Request) -> Answer:
        return Answer("Done.") if request.results else Answer("", [("peek", {})])

    with emulator(ask) as running:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=running.url)]
        reply = Agent("a", "Answer.", tiers=tiers, tools=[peek]).invoke("How are you?")
    assert "this tool sees no 'profile'" in reply.messages[-2].text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"history_turns": 0}, "history_turns=0"),
        ({"history_turns": "3"}, "history_turns='3'"),
        ({"history_turns": 3, "history_step": 4}, "history_step=4"),
        ({"history_step": 1}, "history_step=1"),
        ({"profile": "no"}, "profile='no'"),
    ],
)
def test_refuses_what_is_no_view(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        View(**given)  # type: ignore[arg-type]  # wrong on purpose


def test_a_tier_refuses_a_view_that_is_none() -> None:
    with pytest.raises(ConfigError, match="is no view"):
        Tier("only", "anthropic:claude-opus-5-5", view="all")  # type: ignore[arg-type]  # wrong


kinds = st.sampled_from(("user", "assistant", "tool", "note"))


@given(
    log=st.lists(st.tuples(kinds, st.integers(0, 2), st.booleans()), max_size=40),
    scope=st.builds(
        View,
        profile=st.booleans(),
        task=st.booleans(),
        history_turns=st.none() | st.integers(1, 4),
    ),
)
def test_the_running_hash_of_a_view_is_that_of_each_whole_prompt(log: Any, scope: View) -> None:
    """Whatever the log: turns that skip, entries that come late, notes from before the window."""
    epoch = Epoch(1, "first", 0, (), (Segment("core", "x"), Segment("profile", "p")), {})
    entries: list[Entry] = []
    turn, running = 1, ViewHash(scope, epoch)
    for seq, (kind, ahead, late) in enumerate(log, 1):
        turn += ahead
        text = f"profile.a: {seq}\ntask.b: {seq}" if kind == "note" else f"said {seq}"
        body = canonical.dumps({"blocks": [{"type": "text", "text": text}]})
        entries.append(Entry(seq, max(1, turn - late), 0, kind, body, 1))
        marks = Marks({"core": "short"}, {seq: "long"})
        shown = scope.entries(entries, turn)
        whole = prompt_sha(scope.epoch(epoch), shown, "tail", marks)
        assert running.of(entries, len(entries), turn, "tail", marks) == whole
