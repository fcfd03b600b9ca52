"""What belongs to an agent's business: intents it knows, and a line below which a text is foreign.

A threshold on the best intent's score finds more foreign texts than a class of its own for them,
because there is no end to what people may ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.classifier import Recipe, TextClassifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=30, folds=3)
LEAST_EXAMPLES = 20


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

    def __init__(self, model: TextClassifier, threshold: float) -> None:
        self.model, self.threshold = model, threshold

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
        strange = foreignness(fitted.logits)
        return cls(fitted.model, float(np.quantile(strange, 1 - rejected)))

    def guess(self, text: str) -> Guess:
        """Return the likeliest intent of `text`."""
        logits = self.model.logits([text])
        shares = self.model.calibrated(logits)[0]
        best = int(shares.argmax())
        return Guess(self.model.labels[best], float(shares[best]), float(foreignness(logits)[0]))

    def covers(self, text: str) -> bool:
        """Return whether `text` belongs to the business."""
        return self.guess(text).foreignness <= self.threshold

    def state(self) -> dict[str, Any]:
        """Return the scope as plain values."""
        return {"model": self.model.state, "threshold": self.threshold}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scope:
        """Return the scope of such a state."""
        return cls(TextClassifier(state["model"]), float(state["threshold"]))


def foreignness(logits: Floats) -> Floats:
    """Return how little all intents fit together: minus the logarithm of their summed odds."""
    import numpy as np

    best = logits.max(axis=1)
    strange: Floats = -(best + np.log(np.exp(logits - best[:, None]).sum(axis=1)))
    return strange
