import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import Guard, Health, Outlook, TierFacts, TierPrices, expected_costs

SMALL = TierPrices(input=1, output=5, read=0.1, write=1.25)
LARGE = TierPrices(input=5, output=25, read=0.5, write=6.25)


def tiers(small_warm=0, large_warm=0):
    return [
        TierFacts("standard", "small", 0, SMALL, small_warm),
        TierFacts("flagship", "large", 1, LARGE, large_warm),
    ]


def best(costs):
    return min(costs, key=costs.get)


def test_one_cheap_step_does_not_pay_for_a_cold_cache_but_many_do():
    warm = tiers(large_warm=60_000)
    one = expected_costs(60_000, warm, {"standard": 0.95}, Outlook(steps=1))
    many = expected_costs(60_000, warm, {"standard": 0.95}, Outlook(steps=20))
    assert best(one) == "flagship"
    assert best(many) == "standard"


def test_a_tier_that_mostly_fails_is_not_worth_its_price():
    likely = expected_costs(8_000, tiers(), {"standard": 0.9})
    hopeless = expected_costs(8_000, tiers(), {"standard": 0.02}, Outlook(check_usd=0.01))
    assert best(likely) == "standard"
    assert best(hopeless) == "flagship"


def test_the_first_step_is_billed_by_its_warmth():
    outlook = Outlook(steps=1, output_tokens=0)
    cold = expected_costs(1_000_000, tiers(), {"standard": 1.0}, outlook)
    warm = expected_costs(1_000_000, tiers(400_000, 1_000_000), {"standard": 1.0}, outlook)
    assert cold == pytest.approx({"standard": 1.25, "flagship": 6.25})
    assert warm == pytest.approx({"standard": 0.4 * 0.1 + 0.6 * 1.25, "flagship": 0.5})


def test_the_guard_never_lets_a_session_pass_its_limit():
    guard = Guard(["standard", "flagship"], limit=0.02)
    assert not guard.allows(0.001)
    for _ in range(10):
        guard.record(0.8, {"standard": 1.0, "flagship": 2.0})
    assert guard.room == pytest.approx(10.2 - 8)
    assert guard.allows(2.1)
    assert not guard.allows(2.3)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_circuit_opens_after_three_failures_and_probes_once_per_half_minute():
    clock = Clock()
    health = Health(clock=clock)
    for _ in range(2):
        health.failure("m", "529")
    assert health.allows("m")
    health.failure("m", "529")
    assert not health.allows("m")
    assert health.status()[0].state == "open"
    assert health.status()[0].last_error == "529"
    clock.now = 30
    assert health.available("m")
    assert [health.allows("m") for _ in range(3)] == [True, False, False]
    health.failure("m", "again")
    clock.now = 59
    assert not health.allows("m")
    clock.now = 60
    assert health.allows("m")
    health.success("m")
    assert health.allows("m")
    assert health.status() == []


def test_a_success_between_failures_starts_the_count_anew():
    health = Health(clock=Clock())
    for _ in range(5):
        health.failure("m")
        health.failure("m")
        health.success("m")
    assert health.allows("m")


@pytest.mark.parametrize(
    "use",
    [
        lambda: Outlook(steps=0),
        lambda: Outlook(new_tokens=-1),
        lambda: Guard([]),
        lambda: Guard(["a"]).record(1.0, {"b": 1.0}),
        lambda: Health(failures=0),
        lambda: TierPrices(-1, 1, 1, 1),
        lambda: expected_costs(1, [TierFacts("a", "m", 0)], {}),
    ],
)
def test_refuses_what_makes_no_sense(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
