"""Measures a candidate against what it would replace, and says whether it may be promoted.

A candidate is promoted where its reward is surely higher, or where it is surely not lower by
more than a margin and each solved task surely costs less. Averages alone promote nobody: each
claim stands on the end of an interval. What got worse beside it (steps, abnormal ends) is
flagged, and blocks where the caller says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentmesh.distill.clusters import normal
from agentmesh.distill.traces import Message
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.05
"""The chance that a candidate which is no better is promoted, over all of the claims."""

MARGIN = 0.05
"""How much lower a reward may be and still count as not lower, for a candidate that is cheaper."""

_RESAMPLES = 2_000
_LONGER = 1.1  # times the baseline's steps before it is worth a flag


@dataclass(frozen=True, slots=True)
class Run:
    """How one conversation went; None where a thing was not measured."""

    task: str
    reward: float
    steps: int
    ended: bool = True
    cost: float | None = None
    agreement: float | None = None
    checks: float | None = None
    latency_s: float | None = None
    note: str = ""


class Interval(NamedTuple):
    """A difference, candidate minus baseline, and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of both; `better` is the direction that is wished for."""

    name: str
    baseline: float
    candidate: float
    difference: Interval
    better: Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured and what follows: `promoted`, the reason, flags, the worst cases."""

    promoted: bool
    reason: str
    measures: tuple[Measure, ...]
    flags: tuple[str, ...]
    worst: tuple[tuple[Run, Run], ...]
    paired: bool
    runs: tuple[int, int]

    def measure(self, name: str) -> Measure:
        """Return a measure by its name."""
        return next(m for m in self.measures if m.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for measure in value["measures"]:
            measure["difference"] = dict(zip(Interval._fields, measure["difference"], strict=True))
        return value


def run_of(row: Mapping[str, Any]) -> Run:
    """Return the run of a recorded conversation (`task`, `reward`, `messages`, `termination`)."""
    if row.get("reward") is None:
        raise ConfigError(
            f"conversation {row.get('id')!r} has no reward", hint="evaluation needs one per run"
        )
    costs = [m.get("cost_usd") for m in row["messages"] if m["role"] == "assistant"]
    known = row.get("cost_usd")
    if known is None and costs and any(cost is not None for cost in costs):
        known = sum(cost or 0.0 for cost in costs)
    if not known:  # recorders write 0 where they know no price
        known = None
    ended = str(row.get("termination") or "user_stop") in ("user_stop", "agent_stop")
    return Run(
        task=str(row.get("task") or row.get("id")),
        reward=float(row["reward"]),
        steps=sum(m["role"] != "system" for m in row["messages"]),
        ended=ended,
        cost=known,
        note="" if ended else f"ended by {row['termination']}",
    )


def compare(
    baseline: Sequence[Run],
    candidate: Sequence[Run],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    blocking: bool = False,
    seed: int = 0,
) -> Comparison:
    """Return what a candidate's runs say against a baseline's.

    Runs of the same tasks are compared task by task, others as two samples.

    Args:
        baseline: runs of what is in use.
        candidate: runs of what would replace it.
        margin: how much lower the reward may be for a candidate that is cheaper.
        alpha: the chance of promoting a candidate that is no better.
        blocking: refuse a candidate that has a flag.
        seed: of the resampling that cost per solved task needs.
    """
    if len(baseline) < 2 or len(candidate) < 2:
        raise ConfigError(
            f"{len(baseline)} and {len(candidate)} runs say nothing", hint="give at least 2 of each"
        )
    if not 0 < alpha < 1 or margin < 0:
        raise ConfigError(f"alpha={alpha!r}, margin={margin!r}", hint="0 < alpha < 1, margin >= 0")
    pairs = _pairs(baseline, candidate)
    claim = alpha / 2  # two ways to be promoted share the chance of error
    measures = [
        m
        for name, better in _MEASURES
        if (m := _measure(name, better, baseline, candidate, pairs, claim)) is not None
    ]
    price = _cost_per_solved(baseline, candidate, pairs, claim, seed)
    if price is not None:
        measures.append(price)
    flags = tuple(_flags(measures))
    promoted, reason = _verdict(measures, price, margin)
    if promoted and flags and blocking:
        promoted, reason = False, f"{reason}, but {flags[0]}"
    worst = sorted(
        (pair for pair in pairs or () if pair[1].reward < pair[0].reward or not pair[1].ended),
        key=lambda pair: (pair[1].reward - pair[0].reward, pair[0].task),
    )
    sizes = (len(baseline), len(candidate))
    return Comparison(
        promoted, reason, tuple(measures), flags, tuple(worst[:10]), pairs is not None, sizes
    )


_MEASURES: tuple[tuple[str, Literal["higher", "lower"]], ...] = (
    ("reward", "higher"),
    ("agreement", "higher"),
    ("checks", "higher"),
    ("steps", "lower"),
    ("abnormal ends", "lower"),
    ("latency_s", "lower"),
)


def _values(runs: Sequence[Run], name: str) -> Floats | None:
    import numpy as np

    if name == "abnormal ends":
        return np.array([float(not run.ended) for run in runs])
    values = [getattr(run, name) for run in runs]
    return None if any(v is None for v in values) else np.array(values, dtype=float)


def _pairs(baseline: Sequence[Run], candidate: Sequence[Run]) -> list[tuple[Run, Run]] | None:
    """Return the runs task by task, or None where the tasks are not the same ones."""
    theirs = {run.task: run for run in candidate}
    tasks = [run.task for run in baseline]
    unique = len(set(tasks)) == len(tasks) and len(theirs) == len(candidate)
    if not unique or set(tasks) != set(theirs):
        return None
    return [(run, theirs[run.task]) for run in baseline]


def _measure(
    name: str,
    better: Literal["higher", "lower"],
    baseline: Sequence[Run],
    candidate: Sequence[Run],
    pairs: list[tuple[Run, Run]] | None,
    claim: float,
) -> Measure | None:
    if pairs is not None:
        baseline, candidate = [a for a, _ in pairs], [b for _, b in pairs]
    a, b = _values(baseline, name), _values(candidate, name)
    if a is None or b is None:
        return None
    interval = _paired(b - a, claim) if pairs is not None else _welch(a, b, claim)
    return Measure(name, float(a.mean()), float(b.mean()), interval, better)


def _paired(differences: Floats, claim: float) -> Interval:
    from scipy.stats import t

    n, mean = len(differences), float(differences.mean())
    half = float(t.ppf(1 - claim, n - 1) * differences.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half)


def _welch(a: Floats, b: Floats, claim: float) -> Interval:
    from scipy.stats import t

    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    mean = float(b.mean() - a.mean())
    if va + vb == 0:
        return Interval(mean, mean, mean)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(t.ppf(1 - claim, freedom) * (va + vb) ** 0.5)
    return Interval(mean, mean - half, mean + half)


def _cost_per_solved(
    baseline: Sequence[Run],
    candidate: Sequence[Run],
    pairs: list[tuple[Run, Run]] | None,
    claim: float,
    seed: int,
) -> Measure | None:
    """Return dollars per solved task, failed ones paid for too; None where costs are unknown."""
    import numpy as np

    if pairs is not None:
        baseline, candidate = [a for a, _ in pairs], [b for _, b in pairs]
    ca, cb = _values(baseline, "cost"), _values(candidate, "cost")
    if ca is None or cb is None:
        return None
    ra, rb = (np.array([run.reward for run in runs]) for runs in (baseline, candidate))
    if not ra.sum() or not rb.sum():
        return None
    rng = np.random.default_rng(seed)
    i = rng.integers(0, len(ca), (_RESAMPLES, len(ca)))
    j = i if pairs is not None else rng.integers(0, len(cb), (_RESAMPLES, len(cb)))
    one = ca[i].sum(axis=1) / np.maximum(ra[i].sum(axis=1), 0.5)
    other = cb[j].sum(axis=1) / np.maximum(rb[j].sum(axis=1), 0.5)
    low, high = np.quantile(other - one, [claim, 1 - claim])
    a, b = float(ca.sum() / ra.sum()), float(cb.sum() / rb.sum())
    return Measure(
        "dollars per solved task", a, b, Interval(b - a, float(low), float(high)), "lower"
    )


def _verdict(measures: Sequence[Measure], price: Measure | None, margin: float) -> tuple[bool, str]:
    reward = next(m for m in measures if m.name == "reward").difference
    if reward.low > 0:
        return True, f"its reward is higher by {reward.value:.3f}, at least {reward.low:.3f}"
    lower = f"its reward may be lower by up to {max(0.0, -reward.low):.3f}"
    if reward.low <= -margin:
        return False, f"{lower}, more than the margin of {margin:g}"
    if price is None:
        return False, f"{lower}, and its costs are not known"
    if price.difference.high < 0:
        saved = -price.difference.value / price.baseline
        return True, f"{lower}, within the margin, and a solved task costs {saved:.0%} less"
    return False, f"{lower}, and a solved task is not surely cheaper"


def _flags(measures: Sequence[Measure]) -> list[str]:
    flags = []
    for measure in measures:
        worse = measure.difference
        if measure.name == "steps" and worse.low > 0:
            if measure.candidate > _LONGER * measure.baseline:
                times = measure.candidate / measure.baseline
                flags.append(
                    f"its conversations are longer: {measure.candidate:.1f} messages instead of"
                    f" {measure.baseline:.1f} ({times:.2f} times)"
                )
        elif measure.name == "abnormal ends" and worse.low > 0:
            flags.append(
                f"more of its conversations end abnormally: {measure.candidate:.1%} instead of"
                f" {measure.baseline:.1%}"
            )
        elif measure.name in ("agreement", "checks", "reward") and worse.high < 0:
            flags.append(f"its {measure.name} is lower by {-worse.value:.3f}")
        elif measure.name == "dollars per solved task" and worse.low > 0:
            flags.append(f"a solved task costs more: {measure.candidate:.4f} dollars")
    return flags


def agree(
    answer: Message,
    other: Message,
    *,
    same_text: Callable[[str, str], bool] | None = None,
) -> bool:
    """Say whether two answers do the same: the same calls, or words that say the same.

    Arguments are compared as JSON, in any order of keys; words without case and punctuation,
    unless `same_text` judges them.
    """
    mine, theirs = _calls(answer), _calls(other)
    if mine or theirs:
        return mine == theirs
    one, two = answer.get("content") or "", other.get("content") or ""
    return same_text(one, two) if same_text is not None else normal(one) == normal(two)


def _calls(answer: Message) -> list[tuple[str, str]]:
    made = []
    for call in answer.get("tool_calls") or ():
        try:
            arguments = json.dumps(json.loads(call["function"]["arguments"]), sort_keys=True)
        except ValueError:
            arguments = call["function"]["arguments"]
        made.append((call["function"]["name"], arguments))
    return sorted(made)
