"""What a session's last steps say about this one: kinds of step come in runs.

A classifier reads each step's words by themselves. Whether the cheap tier did well a moment ago
says as much again, and costs nothing to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from agentmesh.errors import ConfigError

PRIOR_STEPS = 30.0
"""How many steps' worth of observation the first guesses weigh."""
PROMISED_STEPS = 30.0
"""How many kept promises of the classifier are taken for granted."""
LIKE_STEPS = 48
"""So many of the last steps say what the next ones are like."""


class Streak:
    """A tier's chances in one session, read in the light of the steps before.

    `keep` is the probability with which a step is of the kind of the one before it, `base` the
    part of the steps that the tier does well on which the classifier was calibrated. `past` are
    chances at the last steps of other sessions (see `later`).

    Example:
        streak = Streak(keep=0.7, base=0.6)
        streak.chance(0.5)              # what the classifier says of the step's words
        streak.saw(passed=True)         # the tier's draft passed the checks
        streak.chance(0.5)              # higher now
    """

    def __init__(self, *, keep: float = 0.7, base: float = 0.6, past: Sequence[float] = ()) -> None:
        for name, value in (("keep", keep), ("base", base)):
            if not 0 < value < 1:
                raise ConfigError(f"{name}={value!r}", hint="give a probability within 0 and 1")
        if not all(0 <= chance <= 1 for chance in past):
            raise ConfigError(f"past={past!r}", hint="give probabilities")
        self._keep, self._base = keep, base
        self._last = deque(past, maxlen=LIKE_STEPS)
        self._belief = self._wordless = sum(past or (base,)) / max(1, len(past))
        self._fit, self._steps = self._belief * PRIOR_STEPS, PRIOR_STEPS
        self._passed = self._promised = PROMISED_STEPS

    def chance(self, chance: float, *, again: bool = False) -> float:
        """Return the probability that the tier's draft passes this step; a new step begins.

        `again` says that the words are those of the step before, as within a turn: what they say
        has been counted, and only what the drafts have shown since is carried over.
        """
        if not 0 <= chance <= 1:
            raise ConfigError(f"chance={chance!r}", hint="give a probability")
        before = self._wordless if again else self._belief
        prior = self._keep * before + (1 - self._keep) * self._fit / self._steps
        self._wordless = prior
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
        self._wordless = self._belief

    @property
    def later(self) -> list[float]:
        """The chances of steps that the next ones are expected to be like."""
        return [chance * self.reliability for chance in self._last or (self._base,)]

    @property
    def reliability(self) -> float:
        """How often the tier passes where it was expected to: 1 unless it fails unforeseen."""
        return min(1.0, self._passed / self._promised)


def _updated(chance: float, base: float, prior: float) -> float:
    """Return a probability that was given under the odds of `base` under those of `prior`."""
    for_, against = chance * prior / base, (1 - chance) * (1 - prior) / (1 - base)
    return for_ / (for_ + against) if for_ + against else prior
