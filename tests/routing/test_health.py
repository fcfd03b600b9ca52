"""Circuits beyond their basics: the only model left, what a ledger tells, requests at fault."""

import pytest

from agentmesh.routing import Failure, Health, TierFacts, escalate
from agentmesh.routing.health import Past


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def down(clock):
    health = Health(clock=clock)
    for _ in range(3):
        health.failure("m", "overloaded")
    return health


def test_the_only_model_left_is_probed_by_one_at_a_time(down):
    assert not down.allows("m")
    assert down.allows("m", last_resort=True)
    assert not down.allows("m", last_resort=True)
    down.failure("m", "overloaded")
    assert down.allows("m", last_resort=True)
    down.success("m")
    assert down.allows("m")
    assert down.status() == []


def test_a_request_that_was_at_fault_itself_gives_the_probe_back(down):
    assert down.allows("m", last_resort=True)
    down.unknown("m")
    assert down.status()[0].state == "open"
    assert down.allows("m", last_resort=True)
    down.unknown("never seen")


def test_a_ledger_tells_who_is_left_alone_and_until_when(clock):
    health = Health(clock=clock)
    health.replay(Past("m", outcome, clock.now - 10) for outcome in ["ok", *["error:timeout"] * 3])
    health.replay([Past("n", "error:invalid_request", clock.now)] * 5)
    health.replay([Past("k", outcome, clock.now) for outcome in ["error:api"] * 2 + ["check:stop"]])
    (status,) = health.status()
    assert (status.model, status.state, status.failures) == ("m", "open", 3)
    assert (status.retry_in_s, status.last_error) == (20, "timeout")
    assert not health.allows("m")
    clock.now += 20
    assert health.allows("m")


def test_a_step_waits_for_the_top_tier_where_nobody_else_can_take_it():
    tiers = [
        TierFacts("small", "small", 0),
        TierFacts("middle", "middle", 1, available=False),
        TierFacts("large", "large", 2, available=False),
    ]
    failed = [Failure("stop", "cut", "small")]
    assert escalate(failed, tiers).name == "large"
    costs = {"middle": 0.01, "large": 0.04}
    assert escalate(failed, tiers, costs=costs).name == "large"
