"""How good a router is: against random at the same cost, against one tier only, and the oracle.

All figures come with bootstrap intervals, because most differences between routers are noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """What routing buys: the share of the gap between the tiers closed, per share of strong calls.

    `shares` and `gains` have one point per number of rows sent to the strong tier.
    """

    shares: Floats
    gains: Floats

    @property
    def apgr(self) -> float:
        """The area under the curve: 0.5 at random, above 1 where weak and strong complement."""
        import numpy as np

        return float(np.trapezoid(self.gains, self.shares))

    def calls_for(self, gain: float) -> float:
        """Return the least share of strong calls that closes `gain` of the gap."""
        reached = self.gains >= gain
        return float(self.shares[reached.argmax()]) if reached.any() else 1.0

    def gain_at(self, share: float) -> float:
        """Return the share of the gap that `share` of strong calls closes; random closes `share`."""
        import numpy as np

        return float(np.interp(share, self.shares, self.gains))


def curve(
    scores: Sequence[float] | Floats,
    weak: Sequence[float] | Floats,
    strong: Sequence[float] | Floats,
) -> Curve:
    """Return the curve of sending the highest `scores` to the strong tier.

    `weak` and `strong` are the tiers' results per row (1 right, 0 wrong). Equal scores share
    their gain evenly, so that no order of the rows can flatter a router.
    """
    import numpy as np

    score = np.asarray(scores, dtype=float)
    gain = np.asarray(strong, dtype=float) - np.asarray(weak, dtype=float)
    if not len(score) == len(gain) > 0:
        raise ConfigError(f"{len(score)} scores for {len(gain)} rows", hint="one score per row")
    if gain.sum() <= 0:
        raise ConfigError(
            "the strong tier is no better than the weak one on these rows",
            hint="there is no gap to close: use the weak tier alone",
        )
    _, group = np.unique(-score, return_inverse=True)
    mean = np.bincount(group, weights=gain) / np.bincount(group)
    order = np.argsort(-score, kind="stable")
    closed = np.concatenate([[0.0], np.cumsum(mean[group[order]])]) / gain.sum()
    return Curve(np.arange(len(score) + 1) / len(score), closed)


def oracle(weak: Sequence[float] | Floats, strong: Sequence[float] | Floats) -> Curve:
    """Return the curve of a router that knows both tiers' results."""
    import numpy as np

    return curve(np.asarray(strong, dtype=float) - np.asarray(weak, dtype=float), weak, strong)


def bootstrap(
    measure: Callable[[NDArray[np.int_]], float],
    rows: int,
    *,
    groups: Sequence[str] | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> Interval:
    """Return `measure(row numbers)` on all rows, with its interval over resampled rows or groups."""
    import numpy as np

    rng = np.random.default_rng(seed)
    everything = np.arange(rows)
    if groups is None:
        draws = [rng.integers(0, rows, rows) for _ in range(rounds)]
    else:
        _, unit = np.unique(groups, return_inverse=True)
        members = [everything[unit == i] for i in range(unit.max() + 1)]
        draws = [
            np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
            for _ in range(rounds)
        ]
    values = []
    for draw in draws:
        try:
            values.append(measure(draw))
        except ConfigError:
            continue  # a resample without any gap or class has no value
    low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    return Interval(float(measure(everything)), float(low), float(high))


def auroc(scores: Sequence[float] | Floats, positive: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the chance that a positive row scores above a negative one; ties count half."""
    import numpy as np

    score, flag = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    if flag.all() or not flag.any():
        raise ConfigError("one class only", hint="both positive and negative rows are needed")
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2
    ranks = middle[group]
    wins = ranks[flag].sum() - flag.sum() * (flag.sum() + 1) / 2
    return float(wins / (flag.sum() * (~flag).sum()))


def skill(
    chances: Sequence[float] | Floats,
    happened: Sequence[bool] | NDArray[np.bool_],
    *,
    rival: Sequence[float] | Floats | None = None,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Return the share of a rival's squared error that probabilities take away; 1 is perfect.

    Without `rival` it is the base rate, said of every row: more than 0 needs probabilities that
    tell rows apart and are calibrated, too.
    """
    import numpy as np

    chance, flag = np.asarray(chances, dtype=float), np.asarray(happened, dtype=bool)
    if not len(chance) == len(flag) > 0:
        raise ConfigError(f"{len(chance)} chances for {len(flag)} rows", hint="one for each row")
    if flag.all() or not flag.any():
        raise ConfigError("one class only", hint="rows of both kinds are needed")
    other = np.full(len(flag), flag.mean()) if rival is None else np.asarray(rival, dtype=float)
    mine, theirs = (chance - flag) ** 2, (other - flag) ** 2

    def measure(rows: NDArray[np.int_]) -> float:
        return 1 - float(mine[rows].sum()) / max(float(theirs[rows].sum()), 1e-12)

    return bootstrap(measure, len(flag), groups=groups)


def recall_at(
    scores: Sequence[float] | Floats,
    positive: Sequence[bool] | NDArray[np.bool_],
    false_positive_rate: float,
) -> float:
    """Return the share of positives above the threshold that so many negatives exceed at most."""
    import numpy as np

    score, flag = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    if flag.all() or not flag.any():
        raise ConfigError("one class only", hint="both positive and negative rows are needed")
    negatives = np.sort(score[~flag])[::-1]
    threshold = negatives[min(int(false_positive_rate * len(negatives)), len(negatives) - 1)]
    return float((score[flag] > threshold).mean())


def caught_among(
    scores: Sequence[float] | Floats, positive: Sequence[bool] | NDArray[np.bool_], share: float
) -> float:
    """Return the share of positives among the `share` of rows with the highest scores."""
    import numpy as np

    score, flag = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    if not flag.any():
        raise ConfigError("no positive row", hint="there is nothing to catch")
    chosen = np.argsort(-score, kind="stable")[: round(share * len(score))]
    return float(flag[chosen].sum() / flag.sum())


def better_than_random(
    scores: Sequence[float] | Floats,
    weak: Sequence[float] | Floats,
    strong: Sequence[float] | Floats,
    *,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Return APGR above matched random; a router is worth activating where `low` is above 0."""
    import numpy as np

    score, w, s = (np.asarray(v, dtype=float) for v in (scores, weak, strong))
    return bootstrap(
        lambda rows: curve(score[rows], w[rows], s[rows]).apgr - 0.5, len(score), groups=groups
    )
