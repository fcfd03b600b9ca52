"""A trained verifier: how likely a draft is wrong, from evidence that needs no model call.

It reads the draft, which a router before the call cannot; so it costs one cheap call, and finds
more. Its probability is calibrated, and a tool with a side effect can be held to a higher bar.
What it sees of a draft is `Judged.of(draft, context)`, whether it judges, learns or is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.arithmetic import arithmetic_evidence
from agentmesh.routing.classifier import Recipe, TextClassifier, Weight
from agentmesh.routing.drafts import (
    EFFECTS,
    TEXT,
    CheckContext,
    Draft,
    ToolFacts,
    bars_of,
    checked_bars,
    worst_effect,
)
from agentmesh.routing.evidence import draft_evidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=1.0, max_features=30_000, min_df=2, folds=10)
BARS: Mapping[str, float] = {TEXT: 0.6, "none": 0.6, "local": 0.4, "external": 0.25}
"""The chance of being wrong from which a draft is refused: by its calls' side effects, or `text`.

A tool's own bar goes before that of its side effect, the lowest counts, and 1 never refuses."""


class Judged(NamedTuple):
    """A draft with what it answered, and what it was offered, to learn from or to judge.

    `question` holds the customer's words of this turn; `seen` all else that the model was shown,
    from which a value may be copied.
    """

    question: str
    draft: Draft
    tools: Mapping[str, ToolFacts]
    seen: str = ""

    @classmethod
    def of(cls, draft: Draft, context: CheckContext) -> Judged:
        """Return what a verifier sees of a draft: the same when it judges and when it learns."""
        return cls(context.step.text, draft, context.tools, context.seen)


class FittedVerifier(NamedTuple):
    """A trained verifier, and its rows' chances of being wrong by models that had not seen them."""

    verifier: Verifier
    scores: Floats


class Verifier:
    """Judges drafts; used as a check it refuses what is likely wrong.

    Example:
        verifier = Verifier.fit(judged, wrong)
        agent = Agent(..., checks=[verifier])
    """

    name = "verifier"

    def __init__(
        self, model: TextClassifier, bars: Mapping[str, float] = BARS, *, tier: str = ""
    ) -> None:
        self.model, self.tier = model, tier
        self._given = dict(bars)  # what is stored: merged with defaults it may contradict itself
        self.bars = checked_bars(bars, BARS, lower_is_stricter=True)
        self.tools = frozenset(self.bars) - {TEXT, *EFFECTS}

    @classmethod
    def fit(
        cls,
        rows: Sequence[Judged],
        wrong: Sequence[bool],
        *,
        groups: Sequence[str] | None = None,
        bars: Mapping[str, float] = BARS,
        tier: str = "",
    ) -> Verifier:
        """Train on judged drafts; `wrong` says which of them were."""
        return cls.cross_fit(rows, wrong, groups=groups, bars=bars, tier=tier).verifier

    @classmethod
    def cross_fit(
        cls,
        rows: Sequence[Judged],
        wrong: Sequence[bool],
        *,
        groups: Sequence[str] | None = None,
        bars: Mapping[str, float] = BARS,
        recipe: Recipe = RECIPE,
        tier: str = "",
    ) -> FittedVerifier:
        """Do as `fit`, and return the out-of-fold scores, too.

        Args:
            rows: drafts, with what they answered.
            wrong: which of them were.
            groups: rows of one group never judge each other.
            bars: the chance of being wrong from which a draft is refused.
            recipe: of the classifier.
            tier: whose drafts they are, if of one tier: it judges no other's then.
        """
        labels = ["" if w is None else "wrong" if w else "right" for w in wrong]
        fitted = TextClassifier.cross_fit(
            [row.draft.text for row in rows],
            labels,
            facts=[evidence(row) for row in rows],
            groups=groups,
            recipe=recipe,
        )
        column = fitted.model.labels.index("wrong")
        return FittedVerifier(
            cls(fitted.model, bars, tier=tier), fitted.model.calibrated(fitted.logits)[:, column]
        )

    def wrong(self, row: Judged) -> float:
        """Return the calibrated probability that the draft is wrong."""
        shares = self.model.probabilities([row.draft.text], [evidence(row)])[0]
        return float(shares[self.model.labels.index("wrong")])

    def explain(self, row: Judged, *, top: int = 8) -> list[Weight]:
        """Return what speaks most for and against the draft's being wrong."""
        return self.model.explain(row.draft.text, "wrong", facts=evidence(row), top=top)

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        """Return why the draft is refused, where it is more likely wrong than its bar allows.

        Nobody could do better than the top tier: there, what has no side effect passes.
        """
        if self.tier not in ("", context.tier):
            return None
        if context.top and worst_effect(draft, context.tools) == "none":
            return None
        bar = min(bars_of(draft, context.tools, self.bars))
        row = Judged.of(draft, context)
        if bar >= 1 or (chance := self.wrong(row)) < bar:
            return None
        because = ", ".join(w.feature for w in self.explain(row, top=3) if w.weight > 0)
        return f"likely wrong ({chance:.0%}, the bar is {bar:.0%}): {because}"

    def state(self) -> dict[str, Any]:
        """Return the verifier as plain values, for `agentmesh.routing.store`."""
        return {"verifier": self.model.state, "bars": dict(self._given), "tier": self.tier}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Verifier:
        """Return the verifier of such a state."""
        return cls(TextClassifier(state["verifier"]), state["bars"], tier=str(state["tier"]))

    def save(self, path: str | Path) -> None:
        """Write the verifier to one file that holds no code."""
        from agentmesh.routing import store

        store.save(path, self.state(), holds=self.name)

    @classmethod
    def load(cls, path: str | Path) -> Verifier:
        """Read a verifier that `save` wrote; a foreign or tampered file is refused.

        One that was trained on other evidence than today's is refused, too.
        """
        from agentmesh.routing import store

        state = store.load(path, holds=cls.name)
        try:
            read = cls.from_state(state)
            read.wrong(Judged("", Draft(""), {}))
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise store.incomplete(path, error, holds=cls.name) from error
        return read


def evidence(row: Judged) -> dict[str, float]:
    """Return all evidence on a draft by name."""
    return {
        **draft_evidence(row.question, row.draft, row.tools, row.seen),
        **arithmetic_evidence(row.question, row.draft.text, row.seen),
    }
