from dataclasses import replace

import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import (
    Health,
    Outlook,
    TierFacts,
    TierPrices,
    choose,
    expected_costs,
)

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


def test_what_is_written_on_leaving_is_not_written_on_return():
    """A detour costs the large tier nothing that it would not have paid anyway."""
    outlook = Outlook(steps=20, later=[{"standard": chance} for chance in (0.95, 0.95, 0.05)])
    fresh, behind = tiers(50_000, 50_000), tiers(50_000, 20_000)
    for known in (0.05, 0.95):
        assert choose(50_000, fresh, {"standard": known}, outlook).tier == (
            "standard" if known > 0.5 else "flagship"
        )
    owed = [expected_costs(50_000, t, {"standard": 0.95}, outlook) for t in (fresh, behind)]
    assert owed[1]["standard"] - owed[0]["standard"] == pytest.approx(30_000 * 5.75e-6, rel=0.01)


def test_a_prefix_that_many_sessions_share_keeps_none_of_them_from_a_tier():
    warm = tiers(0, 6_000)
    alone = Outlook(steps=2, new_tokens=100, output_tokens=20)
    among = replace(alone, shared_tokens=6_000, sharers=20)
    assert choose(6_200, warm, {"standard": 0.9}, alone).tier == "flagship"
    assert choose(6_200, warm, {"standard": 0.9}, among).tier == "standard"


def test_a_third_tier_is_skipped_where_the_top_is_the_cheaper_way_up():
    middle = TierFacts("middle", "m", 1, LARGE, 0)
    three = [TierFacts("student", "s", 0, SMALL), middle, TierFacts("flagship", "l", 2, LARGE)]
    one = Outlook(steps=1)
    useless = expected_costs(8_000, three, {"student": 0.5, "middle": 0.5}, one)
    useful = expected_costs(8_000, three, {"student": 0.5, "middle": 1.0}, one)
    assert useless["student"] == pytest.approx(useful["student"])
    assert useless["middle"] > useful["middle"]


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
        lambda: Outlook(sharers=0),
        lambda: Health(failures=0),
        lambda: TierPrices(-1, 1, 1, 1),
        lambda: expected_costs(1, [TierFacts("a", "m", 0)], {}),
        lambda: expected_costs(1, [], {}),
        lambda: Outlook(later=[{"standard": 2.0}]),
    ],
)
def test_refuses_what_makes_no_sense(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
