"""What became of a tier's drafts, as the ledger and the log tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.distill import give
from agentmesh.memory import Memory
from agentmesh.routers import drafts
from agentmesh.routing import CheckContext, Draft, Router, Rules
from agentmesh.routing.verifier import Judged, evidence
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import tool

RULES = Rules.parse(
    """
[[rule]]
name = "order"
kind = "simple"
any = ["order"]
example = "my order"
"""
)


@tool
def order_status(order: int) -> str:
    """Say where an order is.

    Args:
        order: The order's number.
    """
    if order != 17:
        raise ValueError(f"no order {order}")
    return "on its way to Oslo"


@tool(side_effect="external", approval="always")
def refund(order: int) -> str:
    """Pay an order back.

    Args:
        order: The order's number.
    """
    return "paid"


def calls(name: str, **arguments: Any) -> Answer:
    return Answer("", [(name, arguments)])


def small(request: Request) -> Answer:
    text = request.user_text
    if request.results:
        retried = "again" in text and "no order" in request.results[-1]
        return calls("order_status", order=17) if retried else Answer("It is on its way.")
    if "refund" in text:
        return calls("refund", order=18)
    if "where" in text:
        return calls("order_status", order=17 if "right" in text else 18)
    return Answer("I promise it comes." if "promise" in text else "As you say.")


def large(request: Request) -> Answer:
    return Answer("As you say." if "same" in request.user_text else "It comes on Monday.")


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator({"small": small, "big": large}) as running:
        yield running


def no_promises(draft: Draft, context: CheckContext) -> str | None:
    return "promises" if "promise" in draft.text else None


class Doubting:
    """A check that may err, by its name."""

    name = "judge"

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        doubted = "doubt" in context.step.text and not context.top
        return "I do not like it" if doubted else None


class Watching:
    """Keeps what a verifier would see of every draft."""

    name = "watching"

    def __init__(self) -> None:
        self.seen: list[Judged] = []

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        if context.tier == "student":
            self.seen.append(Judged.of(draft, context))
        return None


def desk(server: Emulator, *checks: Any) -> Agent:
    tiers = [
        Tier(name, f"openai-compatible:{model}", base_url=server.openai_url, price=Price(c, c))
        for name, model, c in (("student", "small", "0.1"), ("flagship", "big", "9"))
    ]
    return Agent(
        "desk",
        "You serve a shop. Orders have numbers such as 12345.",
        tiers=tiers,
        tools=[order_status, refund],
        router=Router(RULES),
        checks=checks,
        memory=Memory("sqlite://"),
    )


def test_every_way_of_being_wrong_becomes_a_label(server: Emulator) -> None:
    agent = desk(server, no_promises, Doubting())
    for session, text in {
        "right": "where is my order 17, right now?",
        "wrong": "where is my order 17?",
        "again": "where is my order 17? look again",
        "own": "promise me my order",
        "false alarm": "the same doubt about my order",
        "doubt": "a doubt about my order",
        "bad": "an order, please",
        "good": "an order, thank you",
    }.items():
        agent.invoke(text, user="u", session=session)
    asked = agent.invoke("refund my order", user="u", session="person")
    assert asked.interrupts
    agent.resume([{"type": "reject", "message": "no"}], user="u", session="person")
    give(agent.memory, session="bad", turn=1, score=0.0)
    give(agent.memory, session="good", turn=1, score=1.0)
    found = {(one.session, one.step): (one.wrong, one.why) for one in labelled(agent)}
    assert found == {
        ("right", 0): (False, "accepted"),
        ("right", 1): (False, "accepted"),
        ("wrong", 0): (True, "tool:order_status"),
        ("wrong", 1): (False, "accepted"),
        ("again", 0): (True, "tool:order_status"),
        ("again", 1): (False, "accepted"),
        ("again", 2): (False, "accepted"),
        ("own", 0): (True, "check:no_promises"),
        ("false alarm", 0): (False, "check:judge"),
        ("doubt", 0): (True, "check:judge"),
        ("bad", 0): (True, "feedback"),
        ("good", 0): (False, "feedback"),
        ("person", 0): (True, "approval"),
        ("person", 1): (False, "accepted"),
    }
    assert drafts(agent.memory, tier="student", agent="other") == []
    assert drafts(agent.memory, tier="flagship") != []
    agent.memory.verify()


def test_what_is_learned_from_is_what_was_judged(server: Emulator) -> None:
    watching = Watching()
    agent = desk(server, watching, no_promises)
    for text in ("an order", "where is my order 17?", "promise me my order", "where, right order?"):
        agent.invoke(text, user="u", session="s1")
    learned = [one.row for one in labelled(agent)]
    assert [row.question for row in learned] == [row.question for row in watching.seen]
    assert [row.seen for row in learned] == [row.seen for row in watching.seen]
    assert "on its way to Oslo" in learned[-1].seen
    assert [evidence(row) for row in learned] == [evidence(row) for row in watching.seen]


def test_a_refused_draft_is_in_the_ledger_and_in_no_prompt(server: Emulator) -> None:
    agent = desk(server, no_promises)
    reply = agent.invoke("promise me my order", user="u", session="s1")
    refused, accepted = reply.steps
    assert refused.decision["draft"] == [{"type": "text", "text": "I promise it comes."}]
    assert "draft" not in accepted.decision
    assert "I promise" not in str(agent.memory.history("s1").records())
    agent.memory.erase(user="u")
    assert agent.memory.ledger.calls() == []


def labelled(agent: Agent) -> list[Any]:
    return drafts(agent.memory, tier="student")
