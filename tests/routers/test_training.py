"""What an agent's ledger teaches: real turns, real database, then a version that knows better."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.errors import ConfigError, InputError
from agentmesh.memory import Memory
from agentmesh.routers import LiveRouter, Versions, lessons, review, said, train
from agentmesh.routing import Step, TierFacts
from agentmesh.testing import Answer, Request, emulator

EASY, HARD = "Where is parcel {} please?", "Please merge cart {} into mine and split the bill"
TIERS = [TierFacts("student", "m", 0), TierFacts("flagship", "n", 1)]
TURNS = 70


def student(request: Request) -> Answer:
    hard = "merge" in request.user_text
    return Answer("", [("no_such_tool", {})]) if hard else Answer("It is on its way.")


def flagship(request: Request) -> Answer:
    return Answer("Done.")


def converse(memory: Memory, turns: int, *, seed: int = 0, hard: float = 0.4) -> None:
    rng = random.Random(seed)
    with emulator({"small": student, "big": flagship}) as server:
        tiers = [
            Tier(
                name,
                f"openai-compatible:{model}",
                base_url=server.openai_url,
                price=Price(cost, cost),
            )
            for name, model, cost in (("student", "small", "0.1"), ("flagship", "big", "9"))
        ]
        agent = Agent("desk", "You serve a shop.", tiers=tiers, memory=memory)
        for i in range(turns):
            text = HARD if rng.random() < hard else EASY
            agent.invoke(text.format(rng.randrange(999)), user="u", session=f"s{seed}-{i}")
        reply = agent.invoke("You won a prize! Call 09061 701461 now", user="u", session="spam")
        assert reply.blocked == "spam"


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    made = Memory("sqlite://")
    converse(made, TURNS)
    yield made
    made.close()


def test_reads_how_the_cheap_tier_did(memory: Memory) -> None:
    found = lessons(memory)
    assert found.tier == "student"
    assert len(found.rows) == TURNS
    assert all(row.passed == ("merge" not in row.text) for row in found.rows)
    assert all(row.strong for row in found.rows)
    assert lessons(memory, agent="other", tier="student").rows == []
    with pytest.raises(ConfigError, match="no step was ever escalated"):
        lessons(memory, agent="other")


def test_trains_activates_and_then_has_nothing_to_do(memory: Memory) -> None:
    assert train(memory, least=500).done == "nothing"
    assert Versions(memory).all() == []
    run = train(memory, alpha=0.2, by="cron")
    assert (run.done, run.labels) == ("activated", TURNS)
    live = Versions(memory).live()
    assert live is not None
    assert live.measured is not None
    assert live.measured["low"] > 0
    assert live.events[-1]["by"] == "cron"
    assert live.trained["contract"]["threshold"] is not None
    again = train(memory)
    assert (again.done, again.reason) == ("nothing", "0 new labels, 50 are needed")
    router = LiveRouter(memory)
    chosen = router.route(Step(HARD.format(5)), TIERS)
    assert (chosen.tier, chosen.version) == ("flagship", "router@1")
    assert router.route(Step(EASY.format(5)), TIERS).tier == "student"


def test_a_tier_that_never_fails_is_no_error_in_a_nightly_run() -> None:
    memory = Memory("sqlite://")
    converse(memory, 12, hard=0.0)
    run = train(memory, tier="student", least=10)
    assert (run.done, run.reason) == ("nothing", "0 of 12 turns failed: nothing to tell apart")
    assert Versions(memory).all() == []
    memory.close()


def test_a_person_says_what_a_blocked_message_was_and_may_say_otherwise(memory: Memory) -> None:
    blocked = [one for one in said(memory) if one.blocked]
    assert [(one.id, one.label) for one in blocked] == [("spam:1", "")]
    assert blocked[0].verdict["kind"] == "spam"
    review(memory, "spam:1", "spam", by="ann", why="it is")
    review(memory, "spam:1", "simple", by="bob", why="a customer of ours")
    (now,) = [one for one in said(memory) if one.blocked]
    assert (now.label, now.by, now.why) == ("simple", "bob", "a customer of ours")
    with pytest.raises(InputError, match="no message 'spam:9'"):
        review(memory, "spam:9", "simple", by="ann", why="x")
    with pytest.raises(ConfigError, match="'ham' is no request kind"):
        review(memory, "spam:1", "ham", by="ann", why="x")
    with pytest.raises(ConfigError, match="by=''"):
        review(memory, "spam:1", "simple", by="", why="x")


def test_a_live_router_follows_the_database_and_voids_a_contract_that_drifted() -> None:
    memory, now = Memory("sqlite://"), [0.0]
    converse(memory, TURNS)
    router = LiveRouter(memory, clock=lambda: now[0])
    assert router.route(Step(EASY.format(1)), TIERS).version == ""
    train(memory, alpha=0.2)
    assert router.route(Step(EASY.format(1)), TIERS).version == ""
    now[0] = 31.0
    assert router.route(Step(EASY.format(1)), TIERS).version == "router@1"
    assert router.route(Step(EASY.format(1)), TIERS).tier == "student"
    for i in range(60):
        router.route(Step(f"etwas ganz anderes Nummer {i} auf Deutsch"), TIERS)
    version = Versions(memory).get(1)
    assert "retrain" in version.void
    assert version.events[-1]["by"] == "drift alarm"
    assert router.route(Step(EASY.format(2)), TIERS).tier == "flagship"
    fresh = LiveRouter(memory)
    assert fresh.route(Step(EASY.format(2)), TIERS).tier == "flagship"
    memory.close()


def test_more_failures_than_in_training_are_an_alarm() -> None:
    memory = Memory("sqlite://")
    converse(memory, TURNS, hard=0.3)
    assert train(memory, alpha=0.3).done == "activated"
    converse(memory, 40, seed=1, hard=1.0)
    run = train(memory, least=1000)
    assert run.done == "nothing"
    assert run.drift is not None
    assert "drafts fail, in training" in run.drift.reason
    assert Versions(memory).get(1).void == run.drift.reason
    memory.close()
