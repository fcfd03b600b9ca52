"""A model's pace: rate limits kept before the vendor says so, and slow models left out."""

import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import Pace, Rate


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_request_waits_until_the_oldest_is_a_minute_old(clock):
    pace, rate = Pace(clock), Rate(requests=2)
    assert pace.wait_s("m", rate) == 0
    pace.sent("m", 10)
    clock.now += 20
    pace.sent("m", 10)
    assert pace.wait_s("m", rate) == 40
    assert pace.wait_s("other", rate) == 0
    assert pace.wait_s("m", None) == 0
    clock.now += 40
    assert pace.wait_s("m", rate) == 0


def test_tokens_wait_for_as_many_to_grow_old(clock):
    pace, rate = Pace(clock), Rate(tokens=1_000)
    pace.sent("m", 300)
    clock.now += 10
    pace.sent("m", 600)
    assert pace.wait_s("m", rate, 100) == 0
    assert pace.wait_s("m", rate, 200) == 50
    assert pace.wait_s("m", rate, 500) == 60


def test_a_prompt_larger_than_a_minute_waits_for_an_empty_one_and_then_goes(clock):
    pace, rate = Pace(clock), Rate(tokens=1_000)
    assert pace.wait_s("m", rate, 5_000) == 0
    pace.sent("m", 5_000)
    assert pace.wait_s("m", rate, 5_000) == 60
    clock.now += 60
    assert pace.wait_s("m", rate, 5_000) == 0


def test_a_slow_model_is_left_out_until_its_slow_answers_are_old(clock):
    pace, rate = Pace(clock), Rate(latency_s=2.0)
    for seconds in (1.0, 5.0):
        pace.answered("m", seconds)
    assert not pace.slow("m", rate)
    pace.answered("m", 6.0)
    assert pace.slow("m", rate)
    assert not pace.slow("m", Rate(latency_s=5.5))
    clock.now += 60
    assert not pace.slow("m", rate)


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"tokens": -1}, {"latency_s": 0.0}])
def test_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Rate(**wrong)
