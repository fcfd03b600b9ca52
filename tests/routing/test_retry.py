import asyncio

import pytest

from agentmesh.errors import ConfigError, TierError
from agentmesh.routing import (
    RetryBudget,
    RetryPolicy,
    StepLimits,
    acall_with_retry,
    call_with_retry,
)


class Clock:
    def __init__(self):
        self.now = 100.0
        self.waits = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)


class Vendor:
    """Fails with the given errors, one per call, then answers."""

    def __init__(self, *errors, clock=None, takes=0.0):
        self.errors, self.sent = list(errors), 0
        self.clock, self.takes = clock, takes

    def __call__(self, seconds):
        self.sent += 1
        if self.clock:
            self.clock.now += self.takes
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def overloaded(retry_after=None):
    return TierError("529", kind="overloaded", retryable=True, retry_after_s=retry_after)


def run(mode, vendor, clock, **options):
    options = {"clock": clock, "jitter": lambda: 1.0, **options}
    if mode == "sync":
        return call_with_retry(vendor, sleep=clock.sleep, **options)

    async def fn(seconds):
        return vendor(seconds)

    return asyncio.run(acall_with_retry(fn, sleep=clock.asleep, **options))


@pytest.fixture(params=["sync", "async"])
def mode(request):
    return request.param


def test_tries_again_with_growing_waits(mode):
    clock, seen = Clock(), []
    vendor = Vendor(overloaded(), overloaded())
    assert run(mode, vendor, clock, on_failure=seen.append) == "answer"
    assert (vendor.sent, clock.waits) == (3, [0.5, 1.0])
    assert [error.kind for error in seen] == ["overloaded"] * 2


def test_sends_three_requests_at_most(mode):
    vendor = Vendor(*[overloaded() for _ in range(9)])
    with pytest.raises(TierError, match="529"):
        run(mode, vendor, Clock())
    assert vendor.sent == 3


def test_does_not_repeat_what_cannot_succeed(mode):
    vendor = Vendor(TierError("400", kind="invalid_request"))
    with pytest.raises(TierError, match="400"):
        run(mode, vendor, Clock())
    assert vendor.sent == 1


def test_waits_as_long_as_the_vendor_asks_but_not_past_the_deadline(mode):
    clock = Clock()
    assert run(mode, Vendor(overloaded(7)), clock) == "answer"
    assert clock.waits == [7]
    clock, vendor = Clock(), Vendor(overloaded(120))
    with pytest.raises(TierError):
        run(mode, vendor, clock)
    assert (vendor.sent, clock.waits) == (1, [])


def test_shares_requests_and_time_among_the_tiers_of_a_step(mode):
    clock = Clock()
    limits = StepLimits(requests=4, deadline_s=60, clock=clock)
    first = Vendor(*[overloaded() for _ in range(9)])
    with pytest.raises(TierError):
        run(mode, first, clock, limits=limits, tier="first")
    second = Vendor(*[overloaded() for _ in range(9)])
    with pytest.raises(TierError, match="529"):
        run(mode, second, clock, limits=limits, tier="second")
    assert (first.sent, second.sent) == (3, 1)
    with pytest.raises(TierError, match="no requests left"):
        run(mode, Vendor(), clock, limits=limits, tier="third")


def test_a_tier_sends_no_more_of_a_steps_requests_than_its_share(mode):
    clock = Clock()
    limits = StepLimits(clock=clock)
    for sent in (3, 0):
        vendor = Vendor(*[overloaded() for _ in range(9)])
        with pytest.raises(TierError):
            run(mode, vendor, clock, limits=limits, tier="only")
        assert vendor.sent == sent
    assert (limits.requests, limits.left("only"), limits.left("other")) == (3, 0, 3)


def test_does_not_begin_after_the_deadline(mode):
    clock = Clock()
    limits = StepLimits(deadline_s=10, clock=clock)
    slow = Vendor(overloaded(), overloaded(), clock=clock, takes=9.9)
    with pytest.raises(TierError, match="529"):
        run(mode, slow, clock, limits=limits)
    assert slow.sent == 1
    clock.now += 1
    with pytest.raises(TierError, match="no time left") as caught:
        run(mode, Vendor(), clock, limits=limits)
    assert caught.value.kind == "timeout"


def test_stops_retrying_when_the_budget_is_spent(mode):
    budget = RetryBudget(share=0.5, reserve=1)
    clock = Clock()
    assert run(mode, Vendor(overloaded()), clock, budget=budget) == "answer"
    with pytest.raises(TierError):
        run(mode, Vendor(overloaded()), clock, budget=budget)
    run(mode, Vendor(), clock, budget=budget)
    assert run(mode, Vendor(overloaded()), clock, budget=budget) == "answer"


def test_cancels_an_awaited_call_that_overruns():
    async def never(seconds):
        await asyncio.sleep(30)

    policy = RetryPolicy(deadline_s=0.05)
    with pytest.raises(TierError, match="no complete answer") as caught:
        asyncio.run(acall_with_retry(never, policy=policy))
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(requests=0),
        lambda: RetryPolicy(deadline_s=0),
        lambda: RetryPolicy(first_wait_s=9),
        lambda: RetryBudget(share=2),
        lambda: StepLimits(requests=0),
    ],
)
def test_refuses_limits_that_make_no_sense(make):
    with pytest.raises(ConfigError):
        make()
