"""A share that holds: the threshold follows the scores, and an alarm says when they have moved.

A threshold fixed on one kind of traffic gives any share on another. The tracker corrects it by
one small step per decision; no window has to be stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentmesh.errors import ConfigError


class QuantileTracker:
    """Keeps the share of scores above `threshold` at `share`, whatever the scores do.

    Steps start at `first_step` times the spread seen so far and shrink to `last_step` of it, so
    that it settles fast and then hardly moves. Thread-safe enough: one float is replaced.

    Example:
        tracker = QuantileTracker(0.3)
        strong = tracker.decide(score)      # True for 30% of the calls
    """

    def __init__(
        self,
        share: float,
        threshold: float = 0.0,
        *,
        spread: float = 1.0,
        first_step: float = 0.5,
        last_step: float = 0.03,
    ) -> None:
        if not 0 < share < 1:
            raise ConfigError(
                f"share={share!r}", hint="give the share of strong calls, such as 0.3"
            )
        if not 0 < last_step <= first_step or not spread > 0:
            raise ConfigError(
                f"contradictory steps: first_step={first_step!r}, last_step={last_step!r}, "
                f"spread={spread!r}",
                hint="0 < last_step <= first_step, and a spread above 0",
            )
        self.share, self.threshold, self.spread = share, threshold, spread
        self._first, self._last = first_step, last_step
        self._seen, self._debt = 0, 0.0

    def decide(self, score: float) -> bool:
        """Return whether `score` is among the highest `share`, and learn from it."""
        if not math.isfinite(score):
            raise ConfigError(f"score={score!r}", hint="a score is a finite number")
        above = score > self.threshold
        self._seen += 1
        self._debt += float(above) - self.share
        rate = max(self._last, self._first / math.sqrt(self._seen))
        scale = 0.05 if self._seen > 1 else 1.0
        self.spread += scale * (abs(score - self.threshold) - self.spread)
        step = rate * max(self.spread, 1e-9)
        self.threshold += step * (float(above) - self.share)
        # What was spent too much so far is paid back slowly, so that the whole share holds too.
        self.threshold += 0.1 * step * max(-3.0, min(3.0, self._debt))
        return above


@dataclass(frozen=True, slots=True)
class Drift:
    """What has moved since training: the scores, and the words that the classifier knows."""

    score_shift: float
    unseen_words: float
    alarm: bool
    reason: str


def drift(
    trained: list[float], live: list[float], *, unseen_words: float = 0.0, limit: float = 0.2
) -> Drift:
    """Compare live scores with those of training (population stability index over ten bins).

    An alarm voids a quality contract: retrain. `unseen_words` is the share of words in live
    traffic that training never saw.
    """
    if len(trained) < 10 or not live:
        raise ConfigError(
            f"{len(trained)} trained and {len(live)} live scores",
            hint="drift needs at least 10 scores from training and 1 live one",
        )
    edges = sorted(trained)
    cuts = [edges[len(edges) * i // 10] for i in range(1, 10)]
    expected, found = _shares(trained, cuts), _shares(live, cuts)
    shift = sum((f - e) * math.log(f / e) for e, f in zip(expected, found, strict=True))
    noise = 2 * 9 / len(live)
    reasons = []
    if shift > limit + noise:
        reasons.append(f"the scores have shifted (index {shift:.2f}, limit {limit + noise:.2f})")
    if unseen_words > 0.3:
        reasons.append(f"{unseen_words:.0%} of the words are new")
    reason = "; ".join(reasons) + ": retrain" if reasons else "no drift"
    return Drift(shift, unseen_words, bool(reasons), reason)


def _shares(scores: list[float], cuts: list[float]) -> list[float]:
    counts = [0.5] * (len(cuts) + 1)
    for score in scores:
        counts[sum(score >= cut for cut in cuts)] += 1
    total = sum(counts)
    return [count / total for count in counts]
