"""How long a prefix is cached follows from the pauses that a session and a layer's users show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentmesh import Agent, Tier
from agentmesh.economy.planner import place_marks
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.semantics import semantics
from agentmesh.economy.warmth import Warmth, outline
from agentmesh.memory import Call, Memory
from agentmesh.memory.render import parse_marks
from agentmesh.testing import Answer, Emulator, Request, emulator

POLICY = "You are the desk of a shop. " * 200
LONG = "Please compare all of this with what you know. " * 60
OPUS, GPT = "anthropic:claude-opus-5-5", "openai:gpt-6.1-sol"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def brain(request: Request) -> Answer:
    return Answer("Nothing has changed. " * 10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[Emulator]:
    with emulator(brain, clock=clock) as running:
        yield running


def build(server: Emulator, clock: Clock, model: str = OPUS, url: str = "sqlite://") -> Agent:
    base = server.url if model.startswith("anthropic") else server.openai_url
    tiers = [Tier("only", model, base_url=base)]
    return Agent("desk", POLICY, tiers=tiers, memory=Memory(url, clock=clock), compaction=None)


def talk(agent: Agent, clock: Clock, pauses: list[float], session: str = "s1") -> None:
    for pause in pauses:
        agent.invoke(LONG, user="u1", session=session)
        clock.now += pause


def all_short(agent: Agent, model: str) -> int:
    """Return what the same calls had cost with a short life for all that is cached."""
    warmth, book, cost = Warmth(), PriceBook(), 0
    for call in agent.memory.ledger.calls():
        prompt = agent.memory.rebuild("s1", call)
        layers = [(segment.name, len(segment.text) // 4) for segment in prompt.segments]
        prompt = replace(
            prompt, marks=place_marks([("tools", 0), *layers], prompt.entries, semantics(model))
        )
        seen = outline(prompt, "s1")
        used = warmth.predict(model, seen, call.started_at).usage
        warmth.note(model, seen, call.started_at)
        cost += book.cost(model, replace(used, output=call.usage.output), call.started_at) or 0
    return cost


def lives(call: Call) -> dict[Any, str]:
    marks = parse_marks(call.marks)
    (log,) = set(marks.entries.values())
    return {**marks.segments, "log": log}


@pytest.mark.parametrize(("model", "pause"), [(OPUS, 1_200.0), (GPT, 7_200.0)])
def test_a_session_with_long_pauses_gets_cheaper_than_with_a_short_life(
    server: Emulator, clock: Clock, model: str, pause: float
) -> None:
    agent = build(server, clock, model)
    talk(agent, clock, [pause] * 12)
    calls = agent.memory.ledger.calls()
    assert set(lives(calls[0]).values()) == {"short"}  # nothing is known yet
    assert all(set(lives(call).values()) == {"long"} for call in calls[2:])
    assert calls[-1].decision["ttl"].startswith("the long life up to the log's end: of")
    cost = sum(call.cost or 0 for call in calls)
    assert cost == sum(bill.cost_micro or 0 for bill in server.bills)
    assert cost < 0.5 * all_short(agent, model)
    for call in calls:  # what was foreseen is what was billed
        assert {**call.planned, "output": 0} == {**_tokens(call), "output": 0}
    agent.memory.verify()


def _tokens(call: Call) -> dict[str, int]:
    kinds = ("fresh", "read", "write", "write_long", "output")
    return {kind: n for kind in kinds if (n := getattr(call.usage, kind))}


@pytest.mark.parametrize("pause", [30.0, 90_000.0])
def test_a_session_whose_pauses_a_long_life_does_not_help_stays_on_the_short_one(
    server: Emulator, clock: Clock, pause: float
) -> None:
    agent = build(server, clock)
    talk(agent, clock, [pause] * 8)
    calls = agent.memory.ledger.calls()
    assert {ttl for call in calls for ttl in lives(call).values()} == {"short"}
    assert all("ttl" not in call.decision for call in calls)
    assert sum(call.cost or 0 for call in calls) == all_short(agent, OPUS)


def test_a_shared_layer_lives_long_for_its_users_while_their_sessions_do_not(
    server: Emulator, clock: Clock
) -> None:
    agent = build(server, clock)
    for number in range(8):  # a new session every ten minutes, of two quick messages
        talk(agent, clock, [20.0, 600.0], session=f"s{number}")
    calls = agent.memory.ledger.calls()
    assert all(lives(call) == {"core": "long", "log": "short"} for call in calls[4:])
    assert all(call.usage.read > 0 for call in calls[4:])
    assert "of the shared layers" in calls[-1].decision["ttl"]


def test_another_process_goes_on_with_what_the_ledger_has_seen(
    server: Emulator, clock: Clock, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/memory.db"
    talk(build(server, clock, url=url), clock, [1_200.0] * 3)
    other = build(server, clock, url=url)
    other.invoke(LONG, user="u1", session="s1")
    last = other.memory.ledger.calls()[-1]
    assert set(lives(last).values()) == {"long"}
    assert last.usage.read > 0.5 * last.usage.input
    talk(other, clock, [0.0], session="s2")
    assert lives(other.memory.ledger.calls()[-1])["core"] == "long"
