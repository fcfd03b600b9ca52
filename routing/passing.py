"""What the ledger has taught: how likely the cheap tier's draft is to fail on a request.

Request kinds say what sort of work it is; this says how one's own cheap tier did at it. Only the
customer's words are read, as everywhere in the router.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.bounds import Contract, quality_contract
from agentmesh.routing.classifier import Recipe, TextClassifier, Weight
from agentmesh.routing.drift import Drift, drift
from agentmesh.routing.features import GRAMS, readable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=1.0, max_features=20_000, min_df=2)
"""A word that one customer alone has said (a name, a number) is not kept."""
KEPT_SCORES = 500
"""Scores of training that are kept, to see later ones drift away from them."""


class FittedPassing(NamedTuple):
    """A trained model, and its rows' chances of failing by models that had not seen them."""

    passing: Passing
    fails: Floats


class Passing:
    """The chance that `tier`'s draft fails on a text, and the contract that rests on it.

    Example:
        fitted = Passing.cross_fit("student", texts, passed, alpha=0.02)
        fitted.passing.fails("Cancel both orders and refund the second")     # about 0.6
    """

    def __init__(
        self,
        tier: str,
        model: TextClassifier,
        scores: Sequence[float],
        *,
        unseen: float,
        contract: Contract | None = None,
    ) -> None:
        self.tier, self.model, self.contract = tier, model, contract
        self.scores, self.unseen = list(scores), unseen
        self.fails = lru_cache(maxsize=256)(self._fails)

    @classmethod
    def cross_fit(
        cls,
        tier: str,
        texts: Sequence[str],
        passed: Sequence[bool],
        *,
        groups: Sequence[str] | None = None,
        alpha: float | None = None,
        confidence: float = 0.9,
    ) -> FittedPassing:
        """Train on what became of the tier's drafts; rows of one group never judge each other.

        With `alpha` a contract is made: of all requests at most that share may fail on this tier
        that would not have failed above it, at `confidence`; what is not proven goes up.
        """
        labels = ["passes" if right else "fails" for right in passed]
        fitted = TextClassifier.cross_fit(texts, labels, groups=groups, recipe=RECIPE)
        column = fitted.model.labels.index("fails")
        scores = fitted.model.calibrated(fitted.logits)[:, column]
        contract = None
        if alpha is not None:
            failed = [not right for right in passed]
            contract = quality_contract(scores.tolist(), failed, alpha=alpha, confidence=confidence)
        kept = sorted(scores.tolist())
        kept = kept[:: max(1, len(kept) // KEPT_SCORES)]
        passing = cls(tier, fitted.model, kept, unseen=_new_words(texts), contract=contract)
        return FittedPassing(passing, scores)

    def allows(self, text: str) -> bool:
        """Return whether the contract lets the tier take `text`; without one it is no matter."""
        if self.contract is None:
            return True
        return self.contract.threshold is not None and self.fails(text) <= self.contract.threshold

    def voided(self) -> Passing:
        """Return a model whose contract, if it has one, proves nothing any more."""
        contract = self.contract and self.contract._replace(threshold=None, kept=0.0)
        return Passing(self.tier, self.model, self.scores, unseen=self.unseen, contract=contract)

    def explain(self, text: str, *, top: int = 8) -> list[Weight]:
        """Return what speaks most for and against a failure."""
        return self.model.explain(text, "fails", top=top)

    def drift(self, texts: Sequence[str]) -> Drift:
        """Compare requests of late with those of training; an alarm voids the contract.

        A word counts as unseen beyond the rate at which training itself met new ones. Chances are
        compared in tenths, cut at two places, and the milder finding counts: what moves across one
        cut only is the difference between one fit and the next.
        """
        live = [self.fails(text) for text in texts]
        known = set(self.model.state["vocabularies"][0]["terms"].split("\n"))
        words = [w for text in texts for w in GRAMS["words"](readable(text), 1, 1)]
        unseen = sum(w not in known for w in words) / max(1, len(words))
        new = max(0.0, unseen - self.unseen)
        found = [
            drift(_tenths(self.scores, cut), _tenths(live, cut), unseen_words=new)
            for cut in (0.0, 0.05)
        ]
        return min(found, key=lambda one: one.score_shift)

    def state(self) -> dict[str, Any]:
        """Return the model as plain values."""
        return {
            "tier": self.tier,
            "model": self.model.state,
            "scores": self.scores,
            "unseen": self.unseen,
            "contract": list(self.contract) if self.contract else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Passing:
        """Return the model of such a state."""
        contract = Contract(*state["contract"]) if state["contract"] else None
        return cls(
            str(state["tier"]),
            TextClassifier(state["model"]),
            [float(score) for score in state["scores"]],
            unseen=float(state["unseen"]),
            contract=contract,
        )

    def _fails(self, text: str) -> float:
        shares = self.model.probabilities([text])[0]
        return float(shares[self.model.labels.index("fails")])


def _tenths(scores: Sequence[float], cut: float) -> list[float]:
    return [int(10 * (score + cut)) / 10 for score in scores]


def _new_words(texts: Sequence[str]) -> float:
    """Return which share of the words of every second text is not in two of the others."""
    if len(texts) < 2:
        raise ConfigError(f"{len(texts)} texts", hint="give two or more")
    words = [list(GRAMS["words"](readable(text), 1, 1)) for text in texts]
    held = Counter(word for row in words[::2] for word in set(row))
    known = {word for word, count in held.items() if count > 1}
    rest = [word for row in words[1::2] for word in row]
    return sum(word not in known for word in rest) / max(1, len(rest))
