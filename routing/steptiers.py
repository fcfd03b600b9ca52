"""The cheapest tier for a step of an agent, learned from steps whose cheapest tier is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.classifier import Recipe, TextClassifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=1.0, max_features=20_000, min_df=2, folds=10)
BAR = 0.9
"""The probability with which the chosen tier must be enough."""


class FittedSteps(NamedTuple):
    """A trained model, and per row the chances that each tier is enough, out of fold."""

    model: StepTiers
    enough: Floats


class StepTiers:
    """Gives the chance that each tier is enough for a step; tier 0 is the cheapest.

    Example:
        model = StepTiers.fit(texts, facts, cheapest, groups=conversations)
        model.choose("fix the failing test", facts_of_the_step)     # 2
    """

    def __init__(self, model: TextClassifier) -> None:
        self.model = model
        self.tiers = 1 + max(int(label) for label in model.labels)

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        facts: Sequence[Mapping[str, float]],
        cheapest: Sequence[int],
        *,
        groups: Sequence[str],
    ) -> StepTiers:
        """Train on each step's cheapest tier that was enough; a conversation is one group."""
        return cls.cross_fit(texts, facts, cheapest, groups=groups).model

    @classmethod
    def cross_fit(
        cls,
        texts: Sequence[str],
        facts: Sequence[Mapping[str, float]],
        cheapest: Sequence[int],
        *,
        groups: Sequence[str],
        recipe: Recipe = RECIPE,
    ) -> FittedSteps:
        """Do as `fit`, and return the out-of-fold chances, too."""
        for i, tier in enumerate(cheapest):
            if not isinstance(tier, int) or tier < 0:
                raise ConfigError(f"row {i} has the tier {tier!r}", hint="number tiers from 0")
        fitted = TextClassifier.cross_fit(
            texts, [str(tier) for tier in cheapest], facts=facts, groups=groups, recipe=recipe
        )
        model = cls(fitted.model)
        return FittedSteps(model, model._enough(fitted.model.calibrated(fitted.logits)))

    def enough(self, text: str, facts: Mapping[str, float]) -> list[float]:
        """Return the chance that each tier is enough, from the cheapest to the top."""
        chances: list[float] = self._enough(self.model.probabilities([text], [facts]))[0].tolist()
        return chances

    def choose(self, text: str, facts: Mapping[str, float], *, bar: float = BAR) -> int:
        """Return the cheapest tier that is enough with at least the chance `bar`."""
        return choose(self.enough(text, facts), bar)

    def _enough(self, shares: Floats) -> Floats:
        import numpy as np

        per_tier = np.zeros((len(shares), self.tiers))
        for column, label in enumerate(self.model.labels):
            per_tier[:, int(label)] = shares[:, column]
        chances: Floats = np.cumsum(per_tier, axis=1)
        return chances

    def state(self) -> dict[str, Any]:
        """Return the model as plain values."""
        return {"steps": self.model.state}


def choose(enough: Sequence[float], bar: float) -> int:
    """Return the first tier whose chance reaches `bar`, or the top one."""
    return next((i for i, chance in enumerate(enough) if chance >= bar), len(enough) - 1)


def step_facts(messages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what the shape of a conversation says: counts and lengths, no tool's words."""
    import math

    roles = [str(message.get("role")) for message in messages]
    sizes = [len(str(message.get("content") or "")) for message in messages]
    last = sizes[-1] if sizes else 0
    by_tool = sum(s for r, s in zip(roles, sizes, strict=True) if r == "tool")
    return {
        "messages": min(1.0, math.log1p(len(messages)) / 5),
        "total size": min(1.0, math.log1p(sum(sizes)) / 14),
        "last message size": min(1.0, math.log1p(last) / 12),
        "answers so far": min(1.0, roles.count("assistant") / 15),
        "tool results so far": min(1.0, roles.count("tool") / 15),
        "share from tools": by_tool / max(1, sum(sizes)),
        "after a tool": float(roles[-1:] == ["tool"]),
        "first step": float("assistant" not in roles),
        "instructions size": min(1.0, math.log1p(sizes[0] if sizes else 0) / 12),
    }


def step_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the words that may decide: the user's first and last, and the agent's own last."""
    mine = [str(m.get("content") or "") for m in messages if m.get("role") == "assistant"]
    users = [str(m.get("content") or "") for m in messages if m.get("role") == "user"]
    parts = [users[0][:3000] if users else ""]
    if len(users) > 1:
        parts.append(users[-1][:1500])
    if mine:
        parts.append(mine[-1][:1500])
    return "\n".join(parts)
