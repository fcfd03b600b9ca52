"""What belongs to an agent's business: intents it knows, and a line below which a text is foreign.

A threshold on the intents' scores finds more foreign texts than a class of its own for them,
because there is no end to what people may ask. Words that the business never uses count as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.classifier import Recipe, TextClassifier
from agentmesh.routing.features import readable, stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=30, folds=3, fold=True, pairs=10)
LEAST_EXAMPLES = 20
UNKNOWN = 0.2
"""How much unknown words count beside the intents' scores, both in standard deviations."""
LEAST_SPREAD = 0.1
"""Of the share of unknown words, where hardly any text has one."""


class Guess(NamedTuple):
    """The likeliest intent of a text, its probability, and how foreign the text is."""

    intent: str
    probability: float
    foreignness: float


class Scope:
    """Tells the texts of an agent's business from others, and names their intent.

    Example:
        scope = Scope.fit(texts, intents)            # labelled requests of your own desk
        router = Router.train(examples, scope=scope)
        scope.covers("Who won the world cup?")        # False
    """

    def __init__(
        self, model: TextClassifier, words: Words, weight: float, threshold: float
    ) -> None:
        self.model, self.words, self.weight, self.threshold = model, words, weight, threshold

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        intents: Sequence[str],
        *,
        rejected: float = 0.05,
        groups: Sequence[str] | None = None,
        held: tuple[Sequence[str], Sequence[str]] | None = None,
        recipe: Recipe = RECIPE,
    ) -> Scope:
        """Train on requests that belong; at most `rejected` of such are taken for foreign.

        The line is drawn on scores out of fold, or on `held` texts and intents, so that it holds
        for requests not seen.
        """
        import numpy as np

        if not 0 < rejected < 1:
            raise ConfigError(f"rejected={rejected!r}", hint="give a share such as 0.05")
        if len(texts) < LEAST_EXAMPLES:
            raise ConfigError(
                f"{len(texts)} examples do not show what belongs",
                hint=f"give at least {LEAST_EXAMPLES} requests of two intents or more",
            )
        fitted = TextClassifier.cross_fit(texts, intents, recipe=recipe, groups=groups, held=held)
        words = Words.of(texts)
        unknown = words.unknown(texts, seen=1) if held is None else words.unknown(held[0])
        apart = misfit(fitted.logits)
        weight = UNKNOWN * float(apart.std() / max(unknown.std(), LEAST_SPREAD))
        line = float(np.quantile(apart + weight * unknown, 1 - rejected))
        return cls(fitted.model, words, weight, line)

    def foreignness(self, texts: Sequence[str]) -> Floats:
        """Return how foreign each text is: what is above `threshold` does not belong."""
        return self._foreignness(texts, self.model.logits(texts))

    def _foreignness(self, texts: Sequence[str], logits: Floats) -> Floats:
        return misfit(logits) + self.weight * self.words.unknown(texts)

    def guess(self, text: str) -> Guess:
        """Return the likeliest intent of `text`."""
        logits = self.model.logits([text])
        shares = self.model.calibrated(logits)[0]
        best = int(shares.argmax())
        strange = self._foreignness([text], logits)
        return Guess(self.model.labels[best], float(shares[best]), float(strange[0]))

    def covers(self, text: str) -> bool:
        """Return whether `text` belongs to the business."""
        return self.guess(text).foreignness <= self.threshold

    def state(self) -> dict[str, Any]:
        """Return the scope as plain values."""
        words = {"terms": "\n".join(self.words.rows), "rows": list(self.words.rows.values())}
        return {
            "model": self.model.state,
            "words": {**words, "texts": self.words.texts},
            "weight": self.weight,
            "threshold": self.threshold,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scope:
        """Return the scope of such a state."""
        words = state["words"]
        rows = dict(zip(words["terms"].split("\n"), words["rows"], strict=True))
        model, known = TextClassifier(state["model"]), Words(rows, int(words["texts"]))
        return cls(model, known, float(state["weight"]), float(state["threshold"]))


class Words(NamedTuple):
    """In how many of so many texts of the business each word stands."""

    rows: dict[str, int]
    texts: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """Count the words of texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(set(stems(readable(text))))
        return cls(dict(sorted(counts.items())), len(texts))

    def unknown(self, texts: Sequence[str], *, seen: int = 0) -> Floats:
        """Return the share of each text's meaning in words that stand nowhere else, or once.

        Rare words mean more. `seen` times each text is among those that were counted.
        """
        import numpy as np

        shares: Floats = np.array([self._unknown(stems(readable(t)), seen) for t in texts])
        return shares

    def _unknown(self, words: Sequence[str], seen: int) -> float:
        rows = [max(0, self.rows.get(word, 0) - seen) for word in words]
        meaning = [math.log((1 + self.texts) / (1 + n)) for n in rows]
        unknown = sum(m for m, n in zip(meaning, rows, strict=True) if n <= 1)
        return unknown / (sum(meaning) or 1.0)


def misfit(logits: Floats) -> Floats:
    """Return how little all intents fit together: minus the logarithm of their summed odds."""
    import numpy as np

    best = logits.max(axis=1)
    strange: Floats = -(best + np.log(np.exp(logits - best[:, None]).sum(axis=1)))
    return strange
