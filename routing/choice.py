"""The choice by expected cost: a switch pays once, and saves or loses on every step after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentmesh.errors import ConfigError
from agentmesh.routing.steps import TierFacts, TierPrices


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the rest of a session: steps, and tokens in and out per step."""

    steps: float = 6.0
    new_tokens: float = 700.0
    output_tokens: float = 300.0
    check_usd: float = 0.0

    def __post_init__(self) -> None:
        if not self.steps >= 1:
            raise ConfigError(f"steps={self.steps!r}", hint="at least this step remains")
        if min(self.new_tokens, self.output_tokens, self.check_usd) < 0:
            raise ConfigError("tokens and costs are 0 or more", hint="see Outlook")


def expected_costs(
    prompt_tokens: int,
    tiers: Sequence[TierFacts],
    success: Mapping[str, float],
    outlook: Outlook | None = None,
) -> dict[str, float]:
    """Return the dollars that the rest of the session costs by the tier that it is begun on.

    A step costs `read * warm + write * (length - warm) + out * E[out]`; every later one reads
    what the last one wrote. A failed draft is paid, checked, and made again one tier up, whose
    cache is cold the first time; the top tier has nobody above it. So warmth makes a session
    stick to its tier without any rule that says so.
    """
    outlook = outlook or Outlook()
    order = sorted(tiers, key=lambda tier: tier.rank)
    if any(tier.prices is None for tier in order):
        missing = next(tier.name for tier in order if tier.prices is None)
        raise ConfigError(f"tier {missing!r} has no prices", hint="give TierFacts(prices=...)")
    costs: dict[str, float] = {}
    above: tuple[float, float] | None = None
    for tier in reversed(order):
        first, later = _first(tier, prompt_tokens, outlook), _later(tier, prompt_tokens, outlook)
        own = first + (outlook.steps - 1) * later
        chance = 1.0 if above is None else success.get(tier.name, tier.success or 0.5)
        failing = outlook.steps * (1 - min(1.0, max(0.0, chance)))
        if above is not None:
            cold = max(0.0, above[0] - above[1])
            own += failing * (outlook.check_usd + above[1]) + min(1.0, failing) * cold
        costs[tier.name] = own
        above = (first, later)
    return {tier.name: costs[tier.name] for tier in order}


class Guard:
    """Holds a session to at most `limit` above the best single tier, whatever is predicted.

    Example:
        guard = Guard(["student", "flagship"])
        if guard.allows(extra_usd): ...                       # before a switch
        guard.record(paid_usd, {"student": 0.01, "flagship": 0.04})
    """

    def __init__(self, tiers: Sequence[str], *, limit: float = 0.02) -> None:
        if not tiers or limit < 0:
            raise ConfigError(f"tiers={tiers!r}, limit={limit!r}", hint="give tiers and a share")
        self.limit, self.paid = limit, 0.0
        self.alone = dict.fromkeys(tiers, 0.0)

    def record(self, paid: float, alone: Mapping[str, float]) -> None:
        """Count what a step cost, and what it would have cost each tier that worked alone."""
        if set(alone) != set(self.alone):
            raise ConfigError(
                f"costs of {sorted(alone)!r}", hint=f"give those of {sorted(self.alone)!r}"
            )
        self.paid += paid
        for name, cost in alone.items():
            self.alone[name] += cost

    @property
    def room(self) -> float:
        """Dollars that may still be risked; below 0 the best single tier must be kept to."""
        return (1 + self.limit) * min(self.alone.values()) - self.paid

    def allows(self, extra: float) -> bool:
        """Return whether a switch that may lose `extra` dollars stays within the limit."""
        return extra <= self.room


def _prices(tier: TierFacts) -> TierPrices:
    if tier.prices is None:
        raise ConfigError(f"tier {tier.name!r} has no prices", hint="give TierFacts(prices=...)")
    return tier.prices


def _first(tier: TierFacts, length: int, outlook: Outlook) -> float:
    price, warm = _prices(tier), min(tier.warm, length)
    tokens = price.read * warm + price.write * (length - warm)
    return (tokens + price.output * outlook.output_tokens) / 1e6


def _later(tier: TierFacts, length: int, outlook: Outlook) -> float:
    price = _prices(tier)
    grown = length + outlook.new_tokens * outlook.steps / 2
    tokens = price.read * grown + price.write * outlook.new_tokens
    return (tokens + price.output * outlook.output_tokens) / 1e6
