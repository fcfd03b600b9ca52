"""How probable a model's own tokens were to it, where the vendor tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def log_odds(tokens: Any) -> list[float]:
    """Return the log-probabilities in a vendor's list of tokens; what is malformed is left out."""
    if not isinstance(tokens, list):
        return []
    found = (token.get("logprob") for token in tokens if isinstance(token, dict))
    return [float(one) for one in found if isinstance(one, int | float)]


def mean(values: Iterable[float]) -> float | None:
    """Return the mean log-probability per token, None where nothing was told."""
    known = list(values)
    return sum(known) / len(known) if known else None
