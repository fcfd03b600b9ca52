import pytest

from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError
from agentmesh.memory import Call, Core, Memory
from agentmesh.routers import Book, replay, status
from agentmesh.routing import Router, Rules

NOW = 1_800_000_000.0
MODELS = {
    "student": "openai-compatible:small",
    "flagship": "anthropic:claude-opus-4-8",
}


def call(turn, tier, outcome="ok", *, step=0, cost=1000, fresh=1000, seconds=1.0):
    stage = "escalation" if step and tier == "flagship" else "classifier"
    return Call(
        user="u",
        agent="desk",
        epoch=1,
        turn=turn.number,
        step=0,
        tier=tier,
        model=MODELS[tier],
        head=1,
        usage=Usage(fresh=fresh, output=100),
        cost=cost,
        outcome=outcome,
        started_at=NOW,
        latency_s=seconds,
        decision={"stage": stage, "reason": "r"},
    )


def say(memory, session, text, calls):
    turn = memory.open_turn(
        session=session, user="u", agent="desk", blocks=[{"type": "text", "text": text}]
    )
    turn.recall(Core((), "You serve."))
    for made in calls:
        turn.record(made(turn))
    turn.finish("done")


@pytest.fixture
def memory():
    made = Memory("sqlite://", clock=lambda: NOW + 10)
    say(made, "a", "Where is my order?", [lambda t: call(t, "flagship", cost=8000)])
    say(
        made,
        "b",
        "Prove that the square root of 2 is irrational",
        [
            lambda t: call(t, "student", "check:arguments", cost=50, seconds=3.0),
            lambda t: call(t, "flagship", step=1, cost=8000),
        ],
    )
    for i in range(3):
        say(made, f"e{i}", "Hello", [lambda t: call(t, "student", "error:overloaded", cost=0)])
    yield made
    made.close()


def test_replays_another_router_over_what_was_recorded(memory):
    done = replay(memory, Router.auto())
    assert done.turns == 5
    assert done.was == {"flagship": 1, "student": 4}
    changed = {one.message: (one.was, one.now) for one in done.changes}
    assert changed == {"a:1": ("flagship", "student"), "b:1": ("student", "flagship")}
    cheaper = next(one for one in done.changes if one.message == "a:1")
    assert 0 < cheaper.expected < cheaper.paid
    dearer = next(one for one in done.changes if one.message == "b:1")
    assert dearer.expected < dearer.paid  # no refused draft before it
    assert (done.newly_blocked, done.newly_admitted) == ([], [])
    strict = Router(Rules.parse(BLOCK), max_chars=100)
    assert replay(memory, strict).newly_blocked == ["e0:1", "e1:1", "e2:1"]


BLOCK = """
[[rule]]
name = "hello"
kind = "spam"
use = "block"
any = ['^hello$']
example = "hello"
"""


def test_a_model_without_a_list_price_is_priced_by_its_own_bills(memory):
    book = Book(memory.ledger.calls(), PriceBook())
    assert book.names == ["student", "flagship"]
    assert book.cost("student", Usage(fresh=1000, output=100)) > 0
    assert book.prices("flagship", 1000).input > book.prices("student", 1000).input


def test_says_what_is_missing(tmp_path):
    empty = Memory("sqlite://")
    with pytest.raises(InputError, match="no turn to replay"):
        replay(empty, Router.auto())
    empty.close()


def test_status_tells_circuits_latencies_and_shares(memory):
    now = status(memory)
    models = {one.model: one for one in now.models}
    small = models["openai-compatible:small"]
    assert (small.health.state, small.health.failures) == ("open", 3)
    assert (small.answered, small.errors, small.median_s) == (1, {"overloaded": 3}, 3.0)
    assert models["anthropic:claude-opus-4-8"].health.state == "closed"
    tiers = {one.tier: one for one in now.tiers}
    assert (tiers["flagship"].accepted, tiers["flagship"].share) == (2, 1.0)
    assert (tiers["student"].refused, tiers["student"].cost) == (1, 50)
    assert (now.turns, now.escalated, now.blocked, now.version) == (5, 1, 0, None)
    later = Memory("sqlite://", clock=lambda: NOW + 10**6)
    assert status(later).models == []
    later.close()
