import random

import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import Decision, Passing, Router, Step, TierFacts
from agentmesh.routing.router import fingerprint

TIERS = [TierFacts(name, name, i) for i, name in enumerate(("student", "flagship"))]
EASY, HARD = "where is parcel {} please", "merge both carts {} and split the bill"


def rows(count=200, seed=0):
    rng = random.Random(seed)
    texts, passed = [], []
    for _ in range(count):
        right = rng.random() < 0.6
        texts.append((EASY if right else HARD).format(rng.randrange(999)))
        passed.append(right if rng.random() < 0.97 else not right)
    return texts, passed


@pytest.fixture(scope="module")
def fitted():
    return Passing.cross_fit("student", *rows(), alpha=0.1)


def test_learns_what_the_tier_fails_on(fitted):
    passing = fitted.passing
    assert passing.fails(HARD.format(1)) > 0.8
    assert passing.fails(EASY.format(1)) < 0.2
    assert "'bill'" in [w.feature for w in passing.explain(HARD.format(1), top=60)]


def test_a_router_heeds_it_before_the_kind_and_only_for_its_tier(fitted):
    plain = Router.auto()
    router = plain.changed(passing=fitted.passing)
    hard, easy = Step(HARD.format(1)), Step(EASY.format(1))
    assert plain.route(easy, TIERS).tier == "student"
    assert (router.route(hard, TIERS).tier, router.route(easy, TIERS).tier) == (
        "flagship",
        "student",
    )
    other = [TierFacts("local", "m", 0), TIERS[1]]
    assert router.route(hard, other).chances == plain.route(hard, other).chances


def test_a_contract_lets_pass_what_is_proven_and_nothing_once_it_is_void(fitted):
    assert fitted.passing.contract.threshold is not None
    assert fitted.passing.allows(EASY.format(5))
    assert not fitted.passing.allows(HARD.format(5))
    void = Router.auto().changed(passing=fitted.passing.voided())
    assert void.route(Step(EASY.format(1)), TIERS).tier == "flagship"
    unproven = Passing.cross_fit("student", *rows(60), alpha=0.001).passing
    assert unproven.contract.threshold is None
    assert not unproven.allows(EASY.format(1))


def test_tells_drift_from_the_same_traffic(fitted):
    same = fitted.passing.drift(rows(200, seed=1)[0])
    assert (same.alarm, same.reason) == (False, "no drift")
    words = fitted.passing.drift([f"zufällig andere Wörter Nummer {i}" for i in range(80)])
    assert words.alarm
    assert "retrain" in words.reason
    shifted = fitted.passing.drift([HARD.format(i) for i in range(80)])
    assert shifted.alarm
    assert "scores have shifted" in shifted.reason


def test_a_saved_router_keeps_it_and_its_pardons(fitted, tmp_path):
    router = Router.auto().changed(passing=fitted.passing, pardons=[fingerprint("Spam  you SAY")])
    router.save(tmp_path / "r.skops")
    again = Router.load(tmp_path / "r.skops")
    assert again.passing.fails(HARD.format(3)) == pytest.approx(
        fitted.passing.fails(HARD.format(3))
    )
    assert again.passing.contract == fitted.passing.contract
    assert again.pardons == router.pardons


def test_a_pardon_lets_in_one_message_however_it_is_spaced():
    spam = "You won a prize! Call 09061 701461 now"
    router = Router.auto().changed(pardons=[fingerprint(spam)])
    assert not Router.auto().admit(spam).allowed
    assert router.admit(spam.upper().replace(" ", "  ")).stage == "review"
    assert not router.admit(spam + "!!").allowed


@pytest.mark.parametrize("passed", [[True] * 4, [False] * 4])
def test_one_class_alone_teaches_nothing(passed):
    with pytest.raises(ConfigError, match="one class only"):
        Passing.cross_fit("student", ["a b", "b c", "c d", "d e"], passed)


def test_a_decision_is_recorded_without_what_is_empty():
    said = Decision("t", "rules", "why", "simple", version="desk@3")
    assert said.record() == {
        "stage": "rules",
        "reason": "why",
        "kind": "simple",
        "router": "desk@3",
    }
    assert Decision("t", "rules", "w", "simple", chances={"t": 1 / 3}).record()["chances"] == {
        "t": 0.3333
    }
