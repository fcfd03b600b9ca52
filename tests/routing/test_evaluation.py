import numpy as np
import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import (
    auroc,
    better_than_random,
    bootstrap,
    caught_among,
    curve,
    oracle,
    recall_at,
)

WEAK = np.array([1, 0, 1, 0, 0, 1, 0, 0])
STRONG = np.array([1, 1, 1, 1, 0, 1, 0, 1])


def test_a_perfect_router_needs_only_the_calls_that_help():
    best = oracle(WEAK, STRONG)
    assert best.calls_for(1.0) == pytest.approx(3 / 8)
    assert best.gain_at(3 / 8) == pytest.approx(1)
    assert best.apgr > 0.75


def test_equal_scores_are_worth_what_random_is():
    flat = curve(np.zeros(8), WEAK, STRONG)
    assert flat.apgr == pytest.approx(0.5)
    assert flat.calls_for(0.5) == pytest.approx(0.5)


def test_the_worst_router_is_below_random():
    gain = STRONG - WEAK
    assert curve(-gain, WEAK, STRONG).apgr < 0.5


def test_a_router_of_noise_is_not_better_than_random():
    rng = np.random.default_rng(1)
    weak, strong = rng.random(400) < 0.5, rng.random(400) < 0.8
    noise = better_than_random(rng.random(400), weak, strong)
    assert noise.low < 0 < noise.high
    skill = better_than_random(strong.astype(float) - weak + rng.random(400), weak, strong)
    assert skill.low > 0


def test_auroc_counts_ties_as_half():
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auroc([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert auroc([4, 3, 2, 1], [False, False, True, True]) == 0


def test_recall_and_catch():
    scores, bad = [9, 8, 7, 1, 0], [True, False, True, False, False]
    assert recall_at(scores, bad, 0.0) == 0.5
    assert recall_at(scores, bad, 0.4) == 1
    assert caught_among(scores, bad, 0.2) == 0.5
    assert caught_among(scores, bad, 0.6) == 1


def test_resamples_whole_groups():
    values = np.array([0.0] * 50 + [1.0] * 50)
    rows = bootstrap(lambda i: values[i].mean(), 100)
    groups = bootstrap(lambda i: values[i].mean(), 100, groups=["a"] * 50 + ["b"] * 50)
    assert groups.high - groups.low > 3 * (rows.high - rows.low)


@pytest.mark.parametrize(
    "use",
    [
        lambda: curve([1, 2], [1, 1], [0, 1]),
        lambda: curve([1], [1, 1], [0, 1]),
        lambda: auroc([1, 2], [True, True]),
        lambda: recall_at([1, 2], [False, False], 0.1),
        lambda: caught_among([1, 2], [False, False], 0.1),
    ],
)
def test_refuses_rows_that_measure_nothing(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
