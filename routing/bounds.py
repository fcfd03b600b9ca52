"""Finite-sample bounds: what a count of errors says about the rate, and thresholds that hold."""

from __future__ import annotations

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
