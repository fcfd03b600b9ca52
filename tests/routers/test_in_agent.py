"""Routers inside an agent: the live version decides, and a stage that fails does no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.memory import Memory
from agentmesh.routers import Verifiers, Versions, said, settle
from agentmesh.routing import Draft, Judged, Policy, Router, Step, TierFacts, Verifier
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator

SPAM = "You won a prize! Call 09061 701461 now"
MIXED = "Plan, rhyme and count"


def small(request: Request) -> Answer:
    if request.user_text.endswith("kind: "):
        return Answer("", fault=Fault("status", status=400))
    return Answer("Hello.")


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator({"small": small, "big": lambda _request: Answer("Done.")}) as running:
        yield running


def tiers(server: Emulator) -> list[Tier]:
    return [
        Tier(
            name,
            f"openai-compatible:{model}",
            base_url=server.openai_url,
            price=Price(cost, cost),
        )
        for name, model, cost in (("student", "small", "0.1"), ("flagship", "big", "9"))
    ]


def test_the_live_version_decides_and_the_ledger_names_it(server: Emulator) -> None:
    memory = Memory("sqlite://")
    agent = Agent("desk", "You serve.", tiers=tiers(server), memory=memory, router="live")
    shipped = agent.invoke("Where is my order?", user="u", session="s1")
    assert "router" not in shipped.steps[0].decision
    assert agent.invoke(SPAM, user="u", session="s2").blocked == "spam"
    (blocked,) = [one for one in said(memory) if one.blocked]
    assert blocked.verdict["stage"] in ("rules", "classifier")
    assert blocked.verdict["reason"]
    settle(memory, "s2:1", "simple", by="ann", why="our campaign")
    again = Agent("desk", "You serve.", tiers=tiers(server), memory=memory, router="live")
    reply = again.invoke(SPAM, user="u", session="s3")
    assert reply.blocked is None
    assert reply.steps[0].decision["router"] == "router@1"
    assert len(Versions(memory).all()) == 1
    memory.verify()
    memory.close()


def test_an_agent_with_a_live_router_runs_the_live_verifier(server: Emulator) -> None:
    rows = [Judged("", Draft(text), {}) for text in ("Hello.", "Goodbye then.") * 20]
    verifier = Verifier.fit(rows, [row.draft.text == "Hello." for row in rows], tier="student")
    memory = Memory("sqlite://")
    stored = Verifiers(memory)
    stored.activate(stored.save(verifier, by="ann", why="made by hand").version, by="ann", why="x")
    agent = Agent("desk", "You serve.", tiers=tiers(server), memory=memory, router="live")
    reply = agent.invoke("Where is my order?", user="u", session="s1")
    assert [call.outcome for call in reply.steps] == ["check:verifier", "ok"]
    assert reply.text == "Done."
    assert reply.steps[0].detail.startswith("likely wrong (")
    memory.close()


def test_a_model_that_cannot_be_asked_for_the_kind_leaves_the_step_to_the_top(
    server: Emulator,
) -> None:
    router = Router.auto().under(Policy(few_shot="student"))
    shares = Router.auto().route(Step(MIXED), [TierFacts("any", "m", 0)]).probabilities
    assert max(shares.values()) < 0.6  # else no model would be asked
    agent = Agent("desk", "You serve.", tiers=tiers(server), router=router)
    reply = agent.invoke(MIXED, user="u", session="s1")
    assert reply.text == "Done."
    drafted = reply.steps[-1]
    assert (drafted.tier, drafted.decision["stage"]) == ("flagship", "fallback")
    assert {call.purpose for call in reply.steps[:-1]} == {"route"}
    agent.memory.verify()
