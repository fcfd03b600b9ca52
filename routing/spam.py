"""Spam and abuse, refused before any paid call, with a stated rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError
from agentmesh.routing.bounds import upper_bound
from agentmesh.routing.classifier import Recipe
from agentmesh.routing.rules import Rules

if TYPE_CHECKING:
    from agentmesh.routing.classifier import Fitted, Floats, TextClassifier

SPAM = "spam"
RECIPE = Recipe(c=1.0, min_df=2, fold=True, structure=False, margin=True)
"""For spam alone, with plenty of it to learn from: numbers differ from one message to the next."""
LEAST_PROBABILITY = 0.8
"""Nothing below it is blocked, whatever the rate of false alarms would allow."""
LATER_LOGIT = 4.0
"""What the log-odds must reach later in a conversation, where a block does more harm."""
CHARS_PER_CUE = 400
"""A longer message needs more evidence: one cue, and one more for each of these."""


@dataclass(frozen=True, slots=True)
class SpamFilter:
    """When a message is spam: the classifier's log-odds are above `threshold`, and there is a cue.

    `false_alarms` of the `harmless` training messages were above it in models that had not seen
    them; `bound` is what that proves about the rate, at `confidence`.
    """

    threshold: float
    slope: float
    offset: float
    harmless: int
    false_alarms: int
    recall: float
    bound: float
    confidence: float

    @classmethod
    def calibrate(
        cls,
        fitted: Fitted,
        texts: Sequence[str],
        labels: Sequence[str],
        rules: Rules,
        *,
        false_alarm_rate: float = 0.01,
        confidence: float = 0.95,
    ) -> SpamFilter:
        """Return the most sensitive filter whose rate of false alarms is bounded as asked."""
        import numpy as np

        if not 0 < false_alarm_rate < 1:
            raise ConfigError(f"false_alarm_rate={false_alarm_rate!r}", hint="such as 0.01")
        margins = spam_margins(fitted.model, fitted.logits)
        spam = np.array([label == SPAM for label in labels])
        cued = np.array([has_evidence(text, rules) for text in texts])
        slope, offset = platt(margins, spam)
        allowed = _allowed_errors(int((~spam).sum()), false_alarm_rate, confidence)
        risky = np.sort(margins[~spam & cued])[::-1]
        threshold = (math.log(LEAST_PROBABILITY / (1 - LEAST_PROBABILITY)) - offset) / slope
        if len(risky) > allowed:
            threshold = max(threshold, float(np.nextafter(risky[allowed], np.inf)))
        caught = cued & (margins >= threshold)
        alarms = int((caught & ~spam).sum())
        harmless = int((~spam).sum())
        return cls(
            threshold,
            slope,
            offset,
            harmless,
            alarms,
            float(caught[spam].mean()),
            upper_bound(alarms, harmless, confidence),
            confidence,
        )

    def probability(self, margin: float) -> float:
        """Return the calibrated probability of spam."""
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, self.slope * margin + self.offset))))

    def blocks(self, text: str, margin: float, rules: Rules, *, first: bool) -> bool:
        """Return whether `text` with these log-odds is refused; later messages need twice as much."""
        if margin < self.threshold:
            return False
        if not first and self.slope * margin + self.offset < LATER_LOGIT:
            return False
        return has_evidence(text, rules, least=1 if first else 2)

    def state(self) -> dict[str, Any]:
        """Return the filter as plain values."""
        return asdict(self)


def cues(text: str, rules: Rules) -> dict[str, float]:
    """Return which cues are in `text`, as facts for the classifier."""
    found = {rule.name for rule in rules.matching(text, "cue")}
    names = [rule.name for rule in rules.rules if rule.use == "cue"]
    return {**{name: float(name in found) for name in names}, "cues": min(1.0, len(found) / 4)}


def spam_margins(model: TextClassifier, logits: Floats) -> Floats:
    """Return the column of the label `spam`."""
    if SPAM not in model.labels:
        raise ConfigError(f"no label {SPAM!r} among {model.labels!r}", hint="label some examples")
    column: Floats = logits[:, model.labels.index(SPAM)]
    return column


def has_evidence(text: str, rules: Rules, *, least: int = 1) -> bool:
    """Return whether enough cues of spam are in `text` for its length."""
    needed = least + len(text) // CHARS_PER_CUE
    for _ in rules.matching(text, "cue"):
        needed -= 1
        if needed <= 0:
            return True
    return False


def platt(margins: Floats, positive: Any) -> tuple[float, float]:
    """Return slope and offset that turn margins into log-odds."""
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        raise ConfigError("one class only: nothing to calibrate on", hint="label both kinds")
    line = LogisticRegression(C=1e4).fit(margins.reshape(-1, 1), positive)
    return max(1e-3, float(line.coef_[0, 0])), float(line.intercept_[0])


def _allowed_errors(trials: int, rate: float, confidence: float) -> int:
    allowed = -1
    while allowed + 1 < trials and upper_bound(allowed + 1, trials, confidence) <= rate:
        allowed += 1
    if allowed < 0:
        raise ConfigError(
            f"{trials} harmless examples cannot prove a false-alarm rate of {rate}",
            hint=f"give at least {math.ceil(math.log(1 - confidence) / math.log(1 - rate))}",
        )
    return allowed
