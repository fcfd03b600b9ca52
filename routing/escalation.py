"""Where a step goes when a tier has failed: one up, or straight to the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentmesh.routing.steps import Failure, TierFacts

HALFWAY = 0.5
"""The chance of success taken for a tier of which nothing is known, but that is above a failed one."""


def escalate(
    failures: Sequence[Failure],
    tiers: Sequence[TierFacts],
    *,
    success: Mapping[str, float] | None = None,
    costs: Mapping[str, float] | None = None,
) -> TierFacts | None:
    """Return the tier that should try next, or None when the top one has failed.

    Tiers below the highest failed one are out, and so is one that is not available, but for the
    top: a step that nobody else can take may wait for it. With `costs` (dollars of this step per tier) the
    way with the least expected cost is taken: each tier's cost, plus the cost of the rest of the
    way should it fail as well. Without them it is one up at first, and the top once two tiers
    have failed.
    """
    failed = {failure.tier for failure in failures}
    ranks = [tier.rank for tier in tiers if tier.name in failed]
    floor = max(ranks, default=-1)
    above = sorted((tier for tier in tiers if tier.rank > floor), key=lambda tier: tier.rank)
    if not above:
        return None
    left = [tier for tier in above if tier.available] or above[-1:]
    if costs is None or any(tier.name not in costs for tier in left):
        return left[-1] if len(failed) > 1 else left[0]
    return _cheapest_way(left, dict(success or {}), costs)


def _cheapest_way(
    left: Sequence[TierFacts], success: Mapping[str, float], costs: Mapping[str, float]
) -> TierFacts:
    best, rest = left[-1], costs[left[-1].name]
    for tier in reversed(left[:-1]):
        chance = success.get(tier.name, HALFWAY if tier.success is None else tier.success)
        expected = costs[tier.name] + (1 - chance) * rest
        if expected < rest:
            best, rest = tier, expected
    return best
