"""A verifier learned from a ledger: proven or kept, used by every live agent, and taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from agentmesh import Agent, Price, Tier
from agentmesh.distill import give
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.memory import Memory
from agentmesh.memory.tables import model_files
from agentmesh.routers import LiveVerifier, Verifiers, Versions, drafts, train_verifier
from agentmesh.routing import CheckContext, Draft, DraftCall, Router, Rules, Step, ToolFacts
from agentmesh.testing import Answer, Request, emulator
from agentmesh.tools import tool

RULES = Rules.parse(
    '[[rule]]\nname = "order"\nkind = "simple"\nany = ["order"]\nexample = "my order"\n'
)
TOOLS = {
    "order_status": ToolFacts(
        {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]},
        description="Say where an order is.",
    )
}


@tool
def order_status(order: int) -> str:
    """Say where an order is.

    Args:
        order: The order's number.
    """
    if order % 2:
        raise ValueError(f"no order {order}")
    return "on its way"


def small(request: Request) -> Answer:
    """Copy the order's number, or slip by one where the customer is in a hurry."""
    if request.results:
        return Answer("Here you are.")
    order = int("".join(c for c in request.user_text if c.isdigit()))
    slip = random.Random(order).random() < 0.4
    return Answer("", [("order_status", {"order": order + slip})])


def large(request: Request) -> Answer:
    return Answer("It is with you tomorrow.")


def desk(memory: Memory, url: str, **arguments: object) -> Agent:
    tiers = [
        Tier(name, f"openai-compatible:{model}", base_url=url, price=Price(cost, cost))
        for name, model, cost in (("student", "small", "0.1"), ("flagship", "big", "9"))
    ]
    return Agent(
        "desk",
        "You serve a shop.",
        tiers=tiers,
        tools=[order_status],
        router=Router(RULES),
        memory=memory,
        **arguments,
    )


def converse(memory: Memory, turns: int, *, seed: int = 0, **arguments: object) -> list[str]:
    """Let customers ask for orders with even numbers; return the tiers that answered."""
    rng = random.Random(seed)
    with emulator({"small": small, "big": large}) as server:
        agent = desk(memory, server.openai_url, **arguments)
        answered = []
        for i in range(turns):
            order = 2 * rng.randrange(500, 4_000)
            reply = agent.invoke(f"Where is order {order}?", user="u", session=f"s{seed}-{i}")
            answered.append(reply.steps[-1].tier)
    return answered


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    made = Memory("sqlite://")
    converse(made, 50)
    yield made
    made.close()


def call(order: int) -> Draft:
    return Draft("", (DraftCall("1", "order_status", f'{{"order": {order}}}'),), "tools")


def asked(order: int, **more: object) -> CheckContext:
    text = f"Where is order {order}?"
    return CheckContext(TOOLS, text, "student", Step(text), **more)


def test_learns_is_proven_and_refuses_what_is_likely_wrong(memory: Memory) -> None:
    rows = drafts(memory, tier="student")
    wrong = sum(row.wrong for row in rows)
    assert (len(rows), 10 < wrong < 30) == (100, True)
    assert train_verifier(memory, tier="student", least=500).reason == (
        "100 new labels, 500 are needed"
    )
    run = train_verifier(memory, tier="student", by="cron")
    assert run.done == "activated"
    assert run.reason.startswith("above the base rate by +")
    live = Verifiers(memory).live()
    assert live is not None
    assert live.measured is not None
    assert live.measured["low"] > 0
    assert live.trained["by"] == {"accepted": 100 - wrong, "tool:order_status": wrong}
    assert live.trained["auroc"] > 0.9
    assert live.events[-1]["by"] == "cron"
    assert Versions(memory).all() == []  # routers are another matter
    check = LiveVerifier(memory)
    said = check(call(2_001), asked(2_000))
    assert said is not None
    assert said.startswith("likely wrong (")
    assert check(call(2_000), asked(2_000)) is None
    assert check(call(2_001), asked(2_000, top=True)) is None
    assert LiveVerifier(memory, bars={"order_status": 1.0})(call(2_001), asked(2_000)) is None
    again = train_verifier(memory, tier="student")
    assert (again.done, again.reason) == ("nothing", "0 new labels, 50 are needed")


def test_a_live_agent_goes_up_where_the_draft_looks_wrong_and_learns_from_that() -> None:
    memory, now = Memory("sqlite://"), [0.0]
    assert set(converse(memory, 40)) == {"student"}
    assert train_verifier(memory, tier="student").done == "activated"
    check = LiveVerifier(memory, clock=lambda: now[0])
    assert set(converse(memory, 20, seed=1, checks=[check])) == {"student", "flagship"}
    refused = [one for one in drafts(memory, tier="student") if one.why == "check:verifier"]
    assert refused
    assert all(one.wrong for one in refused)  # the tier above did something else
    run = train_verifier(memory, tier="student", least=10)
    assert run.reason.startswith("above verifier@1 by ")  # on the drafts since that was trained
    back = Verifiers(memory).rollback(by="ann", why="a test")
    if run.done == "activated":
        assert back is not None
        assert back.label == "verifier@1"
        back = Verifiers(memory).rollback(by="ann", why="a test")
    assert back is None
    assert check(call(2_001), asked(2_000)) is not None
    now[0] = 31.0
    assert check(call(2_001), asked(2_000)) is None
    memory.close()


def test_what_cannot_be_told_apart_is_not_learned(memory: Memory) -> None:
    run = train_verifier(memory, name="top", tier="student", agent="other", least=1)
    assert (run.done, run.labels) == ("nothing", 0)
    quiet = Memory("sqlite://")
    with emulator({"small": lambda _r: Answer("Yes."), "big": large}) as server:
        agent = desk(quiet, server.openai_url)
        for i in range(40):
            agent.invoke(f"order {i}", user="u", session=f"s{i}")
    run = train_verifier(quiet, tier="student", least=10)
    assert (run.done, run.reason) == (
        "nothing",
        "0 of 40 drafts were wrong: 10 of each are needed",
    )
    rng = random.Random(0)
    for i in range(40):
        give(quiet, session=f"s{i}", turn=1, score=float(rng.random() < 0.6))
    run = train_verifier(quiet, tier="student", least=10)
    assert (run.done, "not proven" in run.reason) == ("kept", True)
    assert Verifiers(quiet).live() is None
    with pytest.raises(
        ConfigError, match="verifier@1 is not proven to beat the base rate of wrong"
    ):
        Verifiers(quiet).activate(1, by="ann", why="I like it")
    with pytest.raises(ConfigError, match="no tier 'nobody'") as refused:
        train_verifier(quiet, tier="nobody")
    assert refused.value.hint == "tiers: student"
    with pytest.raises(ConfigError, match="no step was ever escalated"):
        train_verifier(quiet)
    with pytest.raises(ConfigError, match="least=0"):
        train_verifier(quiet, least=0)
    quiet.close()


def test_a_file_that_is_not_the_one_saved_is_refused_and_nothing_is_judged_by_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = Memory("sqlite://")
    converse(memory, 30)
    assert train_verifier(memory, tier="student").done == "activated"
    memory.database.write(lambda c: c.execute(update(model_files).values(body=b"import os")))
    with pytest.raises(CorruptError, match="the file of verifier@1 is not the one") as refused:
        Verifiers(memory).load(1)
    assert refused.value.hint == "roll back: agentmesh route rollback DATABASE --name verifier"
    assert LiveVerifier(memory)(call(2_001), asked(2_000)) is None
    assert "the live verifier cannot be read" in caplog.text
    with pytest.raises(ConfigError, match="the verifier 'verifier' has no version 7"):
        Verifiers(memory).activate(7, by="ann", why="x")
    with pytest.raises(ConfigError, match=r"bars\['none'\]=2"):
        LiveVerifier(memory, bars={"none": 2})
    memory.close()
