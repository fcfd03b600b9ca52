"""Watches a student's success run by run, with tests that may be looked at after every run.

Each keeps a bet against "the student is as good as what it replaced": capital that cannot be
expected to grow while that is true. By Ville's inequality a canary's capital ever reaches
1 / alpha with chance alpha at most, however often it is looked at. What is live runs for good,
so its bets begin anew at every run (an e-detector), and false alarms are rare per run instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentmesh.errors import ConfigError

Mode = Literal["canary", "live"]
Advice = Literal["continue", "promote", "rollback"]

DROPS = ((0.05, 0.1), (0.08, 0.3), (0.12, 0.4), (0.2, 0.15), (0.3, 0.05))
"""How much worse the student may be, and the share of the capital that is bet on it."""

ALARM_RUNS = 20_000
"""Runs of a live student that is as good as it was before a false alarm is to be expected."""


LATEST = 20
"""Runs that are kept one by one, to say how it went of late."""


@dataclass
class Watch:
    """The evidence on one student; feed it with `see`.

    >>> watch = Watch(baseline=0.9)
    >>> watch.see(1.0)
    'continue'

    Args:
        baseline: the success of what it replaces, measured.
        margin: how much lower its success may be.
        alpha: the chance of a canary's false rollback.
        slack: a canary is good when it is surely not lower than the baseline by more.
        mode: `canary` or `live`.
    """

    baseline: float
    margin: float = 0.0
    alpha: float = 0.05
    slack: float = 0.05
    mode: Mode = "canary"
    runs: int = 0
    successes: float = 0.0
    capital: list[float] = field(default_factory=list)
    proof: float = 0.0
    latest: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.baseline <= 1 or not 0 < self.alpha < 1 or self.margin < 0:
            raise ConfigError(
                f"baseline={self.baseline!r}, margin={self.margin!r}, alpha={self.alpha!r}",
                hint="0 < baseline <= 1, 0 < alpha < 1, margin >= 0",
            )
        if not self.capital:
            start = 0.0 if self.mode == "canary" else -math.inf
            self.capital = [math.log(weight) + start for _, weight in DROPS]

    @property
    def expected(self) -> float:
        """The success that the student is held to."""
        return min(0.999, max(0.02, self.baseline - self.margin))

    @property
    def evidence(self) -> float:
        """The capital won against the student: a rollback follows at `limit`."""
        return sum(math.exp(min(700.0, c)) for c in self.capital)

    @property
    def limit(self) -> float:
        """The evidence at which the student is rolled back."""
        return 1 / self.alpha if self.mode == "canary" else float(ALARM_RUNS)

    def see(self, success: float) -> Advice:
        """Add a run's success, from 0 to 1, and return what to do."""
        if not 0 <= success <= 1:
            raise ConfigError(f"success={success!r}", hint="a number from 0 to 1")
        self.runs += 1
        self.successes += success
        self.latest = [*self.latest, success][-LATEST:]
        for i, (drop, weight) in enumerate(DROPS):
            before = self.capital[i]
            if self.mode == "live":  # yesterday's bets, and one that begins today
                before = _log_add(before, math.log(weight))
            self.capital[i] = before + math.log(_bet(self.expected, drop, success))
        floor = max(0.001, self.baseline - self.slack)
        self.proof = max(-50.0, self.proof + math.log(_bet_for(floor, success)))
        return self.advice

    @property
    def advice(self) -> Advice:
        """What the evidence so far says."""
        if self.evidence >= self.limit:
            return "rollback"
        if self.mode == "canary" and self.proof >= math.log(1 / self.alpha):
            return "promote"
        return "continue"

    def told(self) -> str:
        """Return how it went of late, and how it had been before, in words."""
        good, runs = sum(self.latest), len(self.latest)
        return f"{good:g} of the last {runs} runs succeeded; {self.baseline:.1%} did before it"

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON; `Watch.from_json` reads it."""
        capital = [None if math.isinf(c) else c for c in self.capital]
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "capital": capital,
            "latest": self.latest,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Watch:
        """Return the watch that `to_json` wrote."""
        capital = [-math.inf if c is None else c for c in value["capital"]]
        latest = list(value.get("latest", ()))
        return cls(**{name: value[name] for name in _PLAIN}, capital=capital, latest=latest)


_PLAIN = ("baseline", "margin", "alpha", "slack", "mode", "runs", "successes", "proof")


def _bet(expected: float, drop: float, success: float) -> float:
    """Return the factor of a bet that success is lower by `drop`; its mean is at most 1 if not."""
    worse = max(0.01, expected - drop)
    stake = (expected - worse) / (expected * (1 - expected))
    return 1 + stake * (expected - success)


def _bet_for(floor: float, success: float) -> float:
    """Return the factor of a bet that success is above `floor`; its mean is at most 1 if not."""
    better = floor + 0.7 * (1 - floor)
    stake = (better - floor) / (floor * (1 - floor))
    return max(1e-9, 1 + min(stake, 0.5 / floor) * (success - floor))


def _log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))
