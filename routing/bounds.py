"""Finite-sample bounds: what a count of errors says about the rate, and thresholds that hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentmesh.errors import ConfigError


def upper_bound(errors: int, trials: int, confidence: float = 0.95) -> float:
    """Return the rate that the true error rate exceeds with chance 1 - confidence at most.

    The Clopper-Pearson bound, one-sided: exact for independent trials, at any sample size.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}", hint="give a number between 0 and 1")
    if trials < 0 or not 0 <= errors <= max(trials, 0):
        raise ConfigError(f"{errors!r} errors in {trials!r} trials", hint="count again")
    if errors >= trials:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(errors + 1, trials - errors, confidence))


class Contract(NamedTuple):
    """The most permissive threshold that is proven to keep the rate of failures at `alpha`.

    Of the steps that score `threshold` or less, the cheap tier takes all (`kept` of the rows);
    None abstains: nothing is proven, and every step goes up.
    """

    threshold: float | None
    kept: float
    failures: float
    bound: float
    alpha: float
    confidence: float


def quality_contract(
    scores: Sequence[float],
    failed: Sequence[bool],
    *,
    alpha: float,
    confidence: float = 0.9,
    grid: int = 40,
    least: int = 30,
) -> Contract:
    """Return the threshold with at most `alpha` failures among all rows at `confidence`.

    `scores` say how likely the cheap tier is to fail, `failed` whether it did (more than the
    strong tier would have). Thresholds are tested in a fixed order, the strictest first, each by
    its Clopper-Pearson bound, up to the first that fails: so the confidence holds for the one
    that is chosen, with no correction. `failures` counts rows kept cheap that failed, over all
    rows. It holds for traffic like these rows, and is void after a drift alarm.
    """
    if not 0 < alpha < 1 or not 0 < confidence < 1:
        raise ConfigError(
            f"alpha={alpha!r}, confidence={confidence!r}", hint="both are between 0 and 1"
        )
    if len(scores) != len(failed):
        raise ConfigError(f"{len(scores)} scores, {len(failed)} labels", hint="one of each a row")
    if len(scores) < least:
        raise ConfigError(
            f"{len(scores)} labelled steps prove nothing",
            hint=f"label at least {least} steps; until then every step goes to the capable tier",
        )
    rows = sorted(zip(map(float, scores), map(bool, failed), strict=True))
    total = len(rows)
    best = Contract(None, 0.0, 0.0, upper_bound(0, total, confidence), alpha, confidence)
    for i in range(1, grid + 1):
        threshold = rows[total * i // grid - 1][0] if total * i // grid else rows[0][0]
        kept = [fail for score, fail in rows if score <= threshold]
        bound = upper_bound(sum(kept), total, confidence)
        if bound > alpha:
            break
        best = Contract(threshold, len(kept) / total, sum(kept) / total, bound, alpha, confidence)
    return best
