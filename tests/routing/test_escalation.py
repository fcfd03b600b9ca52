from agentmesh.routing import Failure, TierFacts, escalate

TIERS = [TierFacts(name, name, i) for i, name in enumerate(("student", "standard", "flagship"))]


def failed(*names):
    return [Failure("arguments", "bad", name) for name in names]


def test_goes_one_up_first_and_to_the_top_after_two_tiers():
    four = [TierFacts("tiny", "tiny", -1), *TIERS]
    assert escalate(failed("tiny"), four).name == "student"
    assert escalate(failed("tiny", "student"), four).name == "flagship"


def test_ends_when_the_top_has_failed():
    assert escalate(failed("flagship"), TIERS) is None


def test_never_goes_down_nor_to_a_tier_that_is_out():
    assert escalate(failed("standard"), TIERS).name == "flagship"
    out = [TIERS[0], TierFacts("standard", "standard", 1, available=False), TIERS[2]]
    assert escalate(failed("student"), out).name == "flagship"


def test_takes_the_way_with_the_least_expected_cost():
    costs = {"standard": 0.01, "flagship": 0.04}
    unlikely = escalate(failed("student"), TIERS, success={"standard": 0.2}, costs=costs)
    likely = escalate(failed("student"), TIERS, success={"standard": 0.3}, costs=costs)
    assert (unlikely.name, likely.name) == ("flagship", "standard")


def test_takes_a_tiers_own_success_where_it_is_known():
    tiers = [TIERS[0], TierFacts("standard", "m", 1, success=0.1), TIERS[2]]
    costs = {"standard": 0.01, "flagship": 0.04}
    assert escalate(failed("student"), tiers, costs=costs).name == "flagship"
