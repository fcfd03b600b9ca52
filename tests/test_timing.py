"""While a user is away: what is done just before the cache ends, and why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh import Agent, Tier
from agentmesh.keeping import KEEP_ALIVE, LEAD_S, MOST_KEPT, Action, Pauses
from agentmesh.memory import Memory
from agentmesh.memory.compaction import Compaction
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator

POLICY = "You are the desk of a shop. " * 200
TTL_S = 300.0
LONG = "Please compare all of this with what you know. " * 60
MODEL = "anthropic:claude-opus-5-5"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def brain(request: Request) -> Answer:
    if "about to be shortened" in request.user_text:
        return Answer("The user compares orders.")
    if request.user_text == KEEP_ALIVE:
        return Answer("waiting")
    return Answer("Nothing has changed. " * 10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[Emulator]:
    with emulator(brain, clock=clock) as running:
        yield running


@pytest.fixture
def agent(server: Emulator, clock: Clock) -> Agent:
    return build(server.url, clock, Compaction(keep_turns=1, keep_tokens=100, digest_tokens=50))


def build(url: str, clock: Clock, compaction: Compaction | None) -> Agent:
    tiers = [Tier("only", MODEL, base_url=url)]
    return Agent("desk", POLICY, tiers=tiers, memory=Memory(clock=clock), compaction=compaction)


def talk(agent: Agent, clock: Clock, pauses: list[float], session: str = "s1") -> None:
    for pause in pauses:
        agent.invoke(LONG, user="u1", session=session)
        clock.now += pause


def test_nothing_is_done_while_the_cache_lives_on_and_nothing_once_it_is_cold(
    agent: Agent, clock: Clock
) -> None:
    talk(agent, clock, [5.0])
    assert agent.idle() == []
    clock.now += TTL_S
    assert agent.idle() == []
    assert agent.idle(clock.now - TTL_S) == []
    assert len(agent.memory.ledger.calls()) == 1


def test_a_session_whose_user_comes_back_much_later_is_compacted_while_it_is_warm(
    agent: Agent, clock: Clock, server: Emulator
) -> None:
    talk(agent, clock, [7_200.0] * 8)
    clock.now += 5.0
    agent.invoke(LONG, user="u1", session="s1")
    clock.now += TTL_S - LEAD_S + 1
    (action,) = agent.idle()
    assert (action.session, action.kind) == ("s1", "compact")
    digest = agent.memory.ledger.calls(session="s1")[-1]
    assert digest.purpose == "digest"
    assert digest.usage.read / digest.usage.input > 0.9
    assert digest.decision == {"stage": "idle", "reason": action.reason}
    assert "compact at $" in action.reason
    clock.now += 7_200
    agent.invoke(LONG, user="u1", session="s1")
    agent.memory.verify()
    act = agent.memory.ledger.calls(session="s1")[-1]
    assert act.epoch == digest.epoch + 1
    assert act.usage.input < digest.usage.input / 2
    assert sum(b.cost_micro for b in server.bills) == sum(
        c.cost for c in agent.memory.ledger.calls()
    )


def test_a_cache_is_kept_warm_for_a_user_who_is_soon_back(agent: Agent, clock: Clock) -> None:
    talk(agent, clock, [350.0] * 12, session="another")
    agent.invoke(LONG, user="u1", session="s1")  # a session whose own pauses nobody knows yet
    clock.now += TTL_S - 10
    assert [(action.session, action.kind) for action in agent.idle()] == [("s1", "keep")]
    clock.now += 60  # 350 s after the last message, 60 s after the call that kept it warm
    agent.invoke(LONG, user="u1", session="s1")
    kept, act = agent.memory.ledger.calls(session="s1")[-2:]
    assert kept.purpose == "keep"
    assert kept.usage.write + kept.usage.write_long < 100
    assert act.usage.read > 0.9 * kept.usage.read
    assert KEEP_ALIVE not in "".join(r.body for r in agent.memory.history("s1").records())
    agent.memory.verify()


def test_a_session_that_is_cached_for_an_hour_is_not_kept_warm_before(
    agent: Agent, clock: Clock
) -> None:
    talk(agent, clock, [350.0] * 12)
    agent.invoke(LONG, user="u1", session="s1")
    clock.now += TTL_S - 10
    assert agent.idle() == []
    clock.now += 60
    agent.invoke(LONG, user="u1", session="s1")
    act = agent.memory.ledger.calls(session="s1")[-1]
    assert act.usage.read > 0.8 * act.usage.input


def test_keeping_warm_ends_when_it_was_in_vain(agent: Agent, clock: Clock) -> None:
    talk(agent, clock, [350.0] * 12, session="another")
    agent.invoke(LONG, user="u1", session="s1")
    done: list[Action] = []
    for _ in range(200):
        clock.now += 20
        done += [action for action in agent.idle() if action.session == "s1"]
    assert 1 <= len(done) <= MOST_KEPT + 1


def test_without_compaction_nothing_is_compacted(server: Emulator, clock: Clock) -> None:
    agent = build(server.url, clock, None)
    talk(agent, clock, [7_200.0] * 8)
    agent.invoke(LONG, user="u1", session="s1")
    clock.now += TTL_S - 10
    assert "compact" not in {action.kind for action in agent.idle()}
    assert {call.epoch for call in agent.memory.ledger.calls()} == {1}


def test_a_turn_that_runs_is_left_alone(agent: Agent, clock: Clock) -> None:
    talk(agent, clock, [7_200.0] * 8 + [TTL_S - 10])
    turn = agent.memory.open_turn(
        session="s1", user="u1", agent="desk", blocks=[{"type": "text", "text": "Hello?"}]
    )
    assert agent.memory.maintain("s1") is None
    assert agent.idle() == []
    turn.abandon()
    assert agent.memory.maintain("unheard-of") is None


def test_a_digest_that_fails_leaves_the_session_as_it_was(clock: Clock) -> None:
    def failing(request: Request) -> Answer:
        if "about to be shortened" in request.user_text:
            return Answer(fault=Fault("status", status=400))
        return brain(request)

    with emulator(failing, clock=clock) as server:
        agent = build(server.url, clock, Compaction(keep_turns=1, keep_tokens=100))
        talk(agent, clock, [7_200.0] * 8 + [TTL_S - 10])
        assert agent.idle() == []
        assert agent.memory.ledger.calls()[-1].outcome == "error:invalid_request"
        assert agent.invoke(LONG, user="u1", session="s1").text.startswith("Nothing")
        agent.memory.verify()


def test_chances_follow_the_pauses_that_were_seen() -> None:
    assert Pauses().chances(300, 300) == (0.5, 0.25)
    back, soon = Pauses([400.0] * 98).chances(300, 300)
    assert (round(back, 2), round(soon, 2)) == (0.99, 0.98)
    back, soon = Pauses([], gone=98).chances(300, 300)
    assert back == 0.01
