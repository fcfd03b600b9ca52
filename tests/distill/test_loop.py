"""The whole life of a good student, on evidence alone: a loop that no longer promotes it fails here."""

import json
import random

import pytest

from agentmesh import Agent, Tier
from agentmesh.distill import Register, Watch, distil, select
from agentmesh.distill.log import read_traces
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory
from agentmesh.routing import Router, Rules
from agentmesh.testing import Answer, emulator
from agentmesh.tools import tool

WHERE = (
    "where is {}",
    "has {} been sent",
    "Track {} please",
    "i am waiting for {}",
    "status of {}",
)
OPEN = ("when do you open", "opening hours please", "are you open on sunday", "do you close early")
BACK = ("i want to return it", "can i send it back", "how do i return this", "return it please")
ENDS = ("", "?", ", thanks", " now", "!")


class Shop:
    """What is true at the moment, and the flagship that always knows it."""

    hours = "We are open from 9 to 18."

    def answer(self, asked, results):
        order = next((w.strip("?!,") for w in asked.split() if w.startswith("W-")), None)
        if order and not results:
            return Answer(calls=[("order_status", {"order": order})])
        if order:
            told = json.loads(results[-1])
            return Answer(f"Your order {told['order']} is {told['state']}.")
        return Answer(self.hours if asked.startswith(OPEN) else "Send it back within 30 days.")

    def flagship(self, request):
        return self.answer(request.user_text, list(request.results))


@tool(side_effect="none")
def order_status(order: str) -> str:
    """Look up an order.

    Args:
        order: Its number.
    """
    state = ("sent", "packed", "late")[int(order[2:]) % 3]
    return json.dumps({"order": order, "state": state})


class Desk:
    """The shop's agent, and customers who say how it went."""

    def __init__(self, memory, vendor, shop):
        self.memory, self.vendor, self.shop = memory, vendor, shop
        self.random, self.count = random.Random(5), 0

    def agent(self):
        tiers = [
            Tier("student", "student:desk", extra={"canary": 1.0, "evidence": "feedback"}),
            Tier("flagship", "anthropic:claude-opus-5-5", self.vendor.url, "none"),
        ]
        router = Router(Rules(), Router.auto().classifier)
        return Agent(
            "desk",
            "You are a desk.",
            tools=[order_status],
            tiers=tiers,
            memory=self.memory,
            router=router,
        )

    def serve(self, requests, until=lambda: False):
        """Return how many requests were answered by the student alone, of how many."""
        mine = 0
        with self.agent() as agent:
            for done in range(1, requests + 1):
                mine += self.ask(agent)
                if until():
                    return mine, done
        return mine, requests

    def ask(self, agent):
        text = self.random.choice(self.random.choice((WHERE, OPEN, BACK)))
        order = f"W-{self.random.randrange(10_000, 99_999)}"
        asked = text.format(order) + self.random.choice(ENDS)
        self.count += 1
        reply = agent.invoke(asked, session=f"s{self.count}", user=f"u{self.count}")
        results = [m.content for m in reply.messages if m.type == "tool"]
        reply.feedback(float(reply.text == self.shop.answer(asked, results or ["{}"]).text))
        return {step.tier for step in reply.steps if step.outcome == "ok"} == {"student"}


@pytest.fixture
def desk():
    shop = Shop()
    memory = Memory("sqlite://")
    with emulator(shop.flagship) as vendor:
        yield Desk(memory, vendor, shop)
    memory.close()


def test_a_good_student_is_taught_proven_promoted_and_taken_back_when_the_world_changes(
    desk, tmp_path
):
    assert desk.serve(90) == (0, 90)
    loop = distil(desk.memory, tmp_path, name="desk", threshold=None, by="loop")
    assert loop.held.answered >= 0.8
    assert loop.held.agreement == 1.0
    register = Register(desk.memory)
    register.promote("desk")
    assert desk.serve(30)[0] == 0
    shadow = register.get("desk").facts["shadow"]
    assert shadow["agreed"] == shadow["answered"] >= 0.8 * shadow["seen"] > 8
    register.promote("desk")

    def proven():
        return Watch.from_json(register.get("desk").facts["watch"]).advice == "promote"

    mine, asked = desk.serve(200, until=proven)
    assert mine >= 0.8 * asked
    assert proven()
    assert register.promote("desk").state == "live"
    mine, _ = desk.serve(40)
    assert mine >= 0.8 * 40
    desk.shop.hours = "We are open from 10 to 16 in winter."
    _, asked = desk.serve(100, until=lambda: register.get("desk", 1).state == "retired")
    assert asked < 100
    last = register.get("desk", 1).events[-1]
    assert (last["from"], last["to"], last["by"]) == ("live", "retired", "watch")
    assert "of the last 20 runs succeeded" in last["why"]
    assert desk.serve(5) == (0, 5)


def test_what_the_flagship_was_told_to_be_bad_is_not_learned(desk, tmp_path):
    desk.serve(20)
    with desk.agent() as agent:
        agent.invoke("when do you open", session="bad").feedback(0.0)
    reasons = [c.reason for c in select(lambda: read_traces(desk.memory)) if not c.kept]
    assert reasons == ["feedback 0 is below 0.5"]


def test_nothing_is_registered_where_there_is_too_little_to_learn_from(desk, tmp_path):
    desk.serve(3)
    with pytest.raises(ConfigError, match=r"one class|occurs|held out|one group"):
        distil(desk.memory, tmp_path, name="desk", threshold=None)
    assert Register(desk.memory).versions("desk") == []
    assert list(tmp_path.iterdir()) == []
