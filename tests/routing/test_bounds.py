import random

import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import QuantileTracker, drift, quality_contract, upper_bound


def test_the_bound_is_the_textbook_one():
    assert upper_bound(0, 59, 0.95) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(5, 5) == 1
    assert upper_bound(1, 100) > upper_bound(0, 100) > 0


def labelled(rng, rows=400):
    scores = [rng.random() for _ in range(rows)]
    return scores, [rng.random() < 0.5 * score for score in scores]


def test_a_contract_holds_as_often_as_it_says():
    broken = kept = 0
    for seed in range(60):
        rng = random.Random(seed)
        contract = quality_contract(*labelled(rng), alpha=0.1, confidence=0.9)
        kept += contract.threshold is not None
        if contract.threshold is not None:
            scores, failed = labelled(rng, 4000)
            rate = sum(
                f for s, f in zip(scores, failed, strict=True) if s <= contract.threshold
            ) / len(scores)
            broken += rate > 0.1
    assert kept > 50
    assert broken <= 0.2 * 60


def test_abstains_where_nothing_is_proven():
    contract = quality_contract([0.1] * 40, [True, False] * 20, alpha=0.05)
    assert contract.threshold is None
    assert contract.kept == 0


def test_the_share_holds_when_the_scores_move():
    rng = random.Random(5)
    tracker = QuantileTracker(0.3, threshold=0.5)
    for _ in range(300):
        tracker.decide(rng.gauss(5, 2))
    strong = [tracker.decide(rng.gauss(5, 2)) for _ in range(1000)]
    assert abs(sum(strong) / 1000 - 0.3) < 0.02


def test_drift_is_told_from_noise():
    rng = random.Random(2)
    trained = [rng.gauss(0, 1) for _ in range(500)]
    assert not drift(trained, [rng.gauss(0, 1) for _ in range(200)]).alarm
    moved = drift(trained, [rng.gauss(1.5, 1) for _ in range(200)])
    assert moved.alarm
    assert "retrain" in moved.reason
    assert drift(trained, trained, unseen_words=0.5).alarm


@pytest.mark.parametrize(
    "use",
    [
        lambda: upper_bound(3, 2),
        lambda: upper_bound(0, 2, 1.5),
        lambda: quality_contract([1.0] * 5, [False] * 5, alpha=0.1),
        lambda: quality_contract([1.0] * 50, [False] * 5, alpha=0.1),
        lambda: quality_contract([1.0] * 50, [False] * 50, alpha=0),
        lambda: QuantileTracker(1.2),
        lambda: QuantileTracker(0.3, first_step=0.01, last_step=0.5),
        lambda: QuantileTracker(0.3).decide(float("nan")),
        lambda: drift([1.0], [1.0]),
    ],
)
def test_refuses_what_makes_no_sense(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
