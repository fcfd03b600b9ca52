import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing.streak import Streak


def test_a_draft_that_passed_makes_the_next_step_likelier_and_a_failed_one_less():
    chances = {}
    for passed in (True, None, False):
        streak = Streak(keep=0.8, base=0.5)
        streak.chance(0.5)
        if passed is not None:
            streak.saw(passed=passed)
        chances[passed] = streak.chance(0.5)
    assert chances[False] < chances[None] < chances[True]
    assert chances[None] == pytest.approx(0.5)


def test_kinds_that_do_not_come_in_runs_leave_the_classifier_alone():
    streak = Streak(keep=1e-9, base=0.6)
    for _ in range(3):
        assert streak.chance(0.9) == pytest.approx(0.9, abs=0.03)


def test_failures_that_nothing_foretold_lower_what_is_believed():
    streak = Streak(base=0.9)
    for step in range(100):
        streak.chance(0.95)
        streak.saw(passed=step % 2 == 0)
    assert 0.4 < streak.reliability < 0.75
    assert streak.chance(0.95) < 0.75
    assert all(0 <= chance <= 0.75 for chance in streak.later)


def test_what_is_expected_is_like_the_last_steps_and_at_first_like_earlier_sessions():
    streak = Streak(past=[0.2, 0.8])
    assert streak.later == pytest.approx([0.2, 0.8])
    for _ in range(100):
        streak.chance(0.9)
    assert min(streak.later) > 0.8


def test_the_words_of_a_turn_count_once():
    again, anew = Streak(), Streak()
    for step in range(10):
        same, fresh = again.chance(0.8, again=step > 0), anew.chance(0.8)
    assert same == pytest.approx(0.8, abs=0.03)
    assert fresh > 0.85
    again.saw(passed=True)
    assert again.chance(0.8, again=True) > 0.85


def test_certainty_stays_certain():
    streak = Streak()
    assert streak.chance(1.0) == pytest.approx(1.0)
    streak.saw(passed=True)
    assert streak.chance(0.0) == 0.0


@pytest.mark.parametrize(
    "use",
    [
        lambda: Streak(keep=1.0),
        lambda: Streak(base=0.0),
        lambda: Streak(past=[1.5]),
        lambda: Streak().chance(1.5),
    ],
)
def test_refuses_what_is_no_probability(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
