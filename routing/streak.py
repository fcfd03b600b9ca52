"""What a session's last steps say about this one: kinds of step come in runs.

A classifier reads each step's words by themselves. Whether the cheap tier did well a moment ago
says as much again, and costs nothing to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from agentmesh.errors import ConfigError

PRIOR_STEPS = 20.0
"""How many steps' worth of observation the first guesses weigh."""
LIKE_STEPS = 32
"""So many of the last steps say what the next ones are like."""


class Streak:
    """A tier's chances in one session, read in the light of the steps before.

    `keep` is the probability with which a step is of the kind of the one before it; `past` are
    chances that the classifier gave steps of earlier sessions. Measure both on your own.

    Example:
        streak = Streak(keep=0.7, past=[0.9, 0.8, 0.1])
        streak.chance(0.5)              # what the classifier says of the step's words
        streak.saw(passed=True)         # the tier's draft passed the checks
        streak.chance(0.5)              # higher now
    """

    def __init__(self, *, keep: float = 0.7, past: Sequence[float] = (0.6,)) -> None:
        if not 0 < keep < 1:
            raise ConfigError(f"keep={keep!r}", hint="give a probability within 0 and 1")
        if not past or not 0 < sum(past) / len(past) < 1 or not all(0 <= p <= 1 for p in past):
            raise ConfigError(f"past={past!r}", hint="give the chances of some steps")
        self._keep, self._base = keep, sum(past) / len(past)
        self._belief = self._base
        self._fit, self._steps = self._base * PRIOR_STEPS, PRIOR_STEPS
        self._passed = self._promised = PRIOR_STEPS
        self._last = deque(past, maxlen=LIKE_STEPS)

    def chance(self, chance: float) -> float:
        """Return the probability that the tier's draft passes this step; a new step begins."""
        if not 0 <= chance <= 1:
            raise ConfigError(f"chance={chance!r}", hint="give a probability")
        prior = self._keep * self._belief + (1 - self._keep) * self._fit / self._steps
        self._belief = _updated(chance, self._base, prior)
        self._fit, self._steps = self._fit + self._belief, self._steps + 1
        self._last.append(self._belief)
        return self._belief * self.reliability

    def saw(self, *, passed: bool) -> None:
        """Note whether the draft that the tier made of this step passed the checks."""
        before = self._belief
        self._passed += passed
        self._promised += before
        slips = 1 - self.reliability
        failing = slips * before + 1 - before
        self._belief = 1.0 if passed else slips * before / failing if failing else before
        self._fit += self._belief - before

    @property
    def later(self) -> list[float]:
        """The chances of steps that the next ones are expected to be like."""
        return [chance * self.reliability for chance in self._last]

    @property
    def reliability(self) -> float:
        """How often the tier passes where it was expected to: 1 unless it fails unforeseen."""
        return min(1.0, self._passed / self._promised)


def _updated(chance: float, base: float, prior: float) -> float:
    """Return a probability that was given under the odds of `base` under those of `prior`."""
    for_, against = chance * prior / base, (1 - chance) * (1 - prior) / (1 - base)
    return for_ / (for_ + against) if for_ + against else prior
