"""The choice by expected cost: a switch pays once, and saves or loses on every step after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.steps import TierFacts, TierPrices


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the rest of a session: steps, and tokens in and out per step.

    `later` says for which share of the later steps a tier will do; this step's own chances are
    taken for the tiers that it leaves out.
    """

    steps: float = 6.0
    new_tokens: float = 700.0
    output_tokens: float = 300.0
    check_usd: float = 0.0
    later: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.steps >= 1:
            raise ConfigError(f"steps={self.steps!r}", hint="at least this step remains")
        if min(self.new_tokens, self.output_tokens, self.check_usd) < 0:
            raise ConfigError("tokens and costs are 0 or more", hint="see Outlook")
        for tier, share in self.later.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"later[{tier!r}]={share!r}", hint="give a share within 0 and 1")


def expected_costs(
    prompt_tokens: int,
    tiers: Sequence[TierFacts],
    success: Mapping[str, float],
    outlook: Outlook | None = None,
) -> dict[str, float]:
    """Return the dollars that the rest of the session costs by the tier that this step is done on.

    A step costs `read * warm + write * (length - warm) + out * E[out]`. A failed draft is paid,
    checked, and made again by the tier above for which that is cheapest; the top tier has nobody
    above it. Each later step is done by the lowest tier that will do, of those that it pays to
    keep warm: such a tier must be shown everything once, whoever wrote it, and reads it from then
    on. So what a tier writes now it need not write when the session comes back to it, and
    warmth makes a session stick to its tiers without any rule that says so.
    """
    outlook = outlook or Outlook()
    order = _ranked(tiers)
    chances = [_chance(tier, success) for tier in order[:-1]] + [1.0]
    later = [*(outlook.later.get(t.name, c) for t, c in zip(order, chances, strict=True))]
    sums = _Sums(prompt_tokens, tuple(order), tuple(chances), (*later[:-1], 1.0), outlook)
    return {tier.name: sums.begun(i, frozenset()) for i, tier in enumerate(order)}


class Choice(NamedTuple):
    """The tier for a step, what each would be expected to cost, and whether the guard chose."""

    tier: str
    costs: dict[str, float]
    held: bool = False


def choose(
    prompt_tokens: int,
    tiers: Sequence[TierFacts],
    success: Mapping[str, float],
    outlook: Outlook | None = None,
    guard: Guard | None = None,
) -> Choice:
    """Return the tier on which the session is expected to cost least, as far as `guard` allows."""
    outlook = outlook or Outlook()
    costs = expected_costs(prompt_tokens, tiers, success, outlook)
    best = min(costs, key=costs.__getitem__)
    if guard is None or guard.keeps(best, prompt_tokens, tiers, success, outlook):
        return Choice(best, costs)
    return Choice(guard.best, costs, held=True)


def alone_costs(
    prompt_tokens: int,
    new_tokens: int,
    tiers: Sequence[TierFacts],
    success: Mapping[str, float],
    outlook: Outlook | None = None,
) -> dict[str, float]:
    """Return the dollars that this step costs a session by the one tier that it always begins on.

    Such a tier has cached all but the newest tokens. What it fails at is made again by the top
    tier, which comes back to what it has cached as well.
    """
    outlook = outlook or Outlook()
    order = _ranked(tiers)
    top = order[-1]
    old = max(0, prompt_tokens - new_tokens)
    costs = {}
    for tier in order:
        costs[tier.name] = _usd(tier, old, new_tokens, outlook)
        if tier is not top:
            failing = 1 - _chance(tier, success)
            again = _usd(top, prompt_tokens, 0, outlook) + outlook.check_usd
            price = _prices(top)
            shown = (price.write - price.read) * new_tokens / 1e6
            costs[tier.name] += failing * again + (shown if failing else 0.0)
    return costs


class Guard:
    """Holds a session to at most `limit` above the best single tier, whatever is predicted.

    Example:
        guard = Guard(["student", "flagship"])
        choice = choose(tokens, tiers, success, outlook, guard)
        guard.record(paid_usd, alone_costs(tokens, new_tokens, tiers, success))
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
    def best(self) -> str:
        """The tier that would have cost the session least so far; the last of equal ones."""
        return min(reversed(self.alone), key=self.alone.__getitem__)

    @property
    def room(self) -> float:
        """Dollars that may still be risked; below 0 the best single tier must be kept to."""
        return (1 + self.limit) * min(self.alone.values()) - self.paid

    def allows(self, extra: float, ahead: float = 0.0) -> bool:
        """Return whether a switch that may lose `extra` dollars stays within the limit.

        `ahead` is what the rest of the session is expected to cost the best single tier: its
        share of the limit may be risked now.
        """
        return extra <= self.room + self.limit * ahead

    def keeps(
        self,
        tier: str,
        prompt_tokens: int,
        tiers: Sequence[TierFacts],
        success: Mapping[str, float],
        outlook: Outlook,
    ) -> bool:
        """Return whether this step may be done on `tier`, even if its draft fails."""
        named = {facts.name: facts for facts in _ranked(tiers)}
        if tier == self.best or self.best not in named:
            return True
        top = _ranked(tiers)[-1]
        risked = step_usd(named[tier], prompt_tokens, outlook)
        kept = step_usd(named[self.best], prompt_tokens, outlook)
        if tier != top.name:
            risked += outlook.check_usd + step_usd(top, prompt_tokens, outlook)
        growth = int(outlook.new_tokens + outlook.output_tokens)
        length = prompt_tokens + growth * outlook.steps / 2
        ahead = alone_costs(int(length), growth, tiers, success, outlook)[self.best]
        return self.allows(risked - kept, ahead * (outlook.steps - 1))


class _Sums(NamedTuple):
    """One step's expected costs: tiers cheapest first, with their chances now and later."""

    length: int
    tiers: tuple[TierFacts, ...]
    chances: tuple[float, ...]
    later: tuple[float, ...]
    outlook: Outlook

    def begun(self, i: int, shown: frozenset[int]) -> float:
        """Return what the session costs if tier `i` is next, those in `shown` having failed."""
        done = shown | {i}
        cost = step_usd(self.tiers[i], self.length, self.outlook)
        failed = max((self.chances[j] for j in shown), default=0.0)
        fails = 0.0
        if i + 1 < len(self.tiers):  # given that lower tiers have failed
            fails = min(1.0, (1 - self.chances[i]) / (1 - failed)) if failed < 1 else 1.0
        if fails:
            above = min(self.begun(j, done) for j in range(i + 1, len(self.tiers)))
            cost += fails * (self.outlook.check_usd + above)
        return cost + (1 - fails) * self.rest(done)

    def rest(self, shown: frozenset[int]) -> float:
        """Return what the later steps cost, on those of the tiers that it pays to keep warm."""
        steps = self.outlook.steps - 1
        if steps <= 0:
            return 0.0
        growth = self.outlook.new_tokens + self.outlook.output_tokens
        added, mean = growth * steps, self.length + growth * (steps + 1) / 2
        ways = []
        for lowest in range(len(self.tiers)):
            cost, reached = 0.0, 0.0
            for i in range(lowest, len(self.tiers)):
                share = max(0.0, self.later[i] - reached)
                reached += share
                tier, price = self.tiers[i], _prices(self.tiers[i])
                behind = 0 if i in shown else max(0, self.length - tier.warm)
                visited = 1 - (1 - share) ** steps
                cost += steps * share * _usd(tier, mean, 0, self.outlook)
                cost += visited * (price.write - price.read) * (behind + added) / 1e6
            ways.append(cost)
        return min(ways)


def step_usd(tier: TierFacts, length: int, outlook: Outlook) -> float:
    """Return what one draft of a tier costs now, by what it has cached."""
    warm = min(tier.warm, length)
    return _usd(tier, warm, length - warm, outlook)


def _usd(tier: TierFacts, read: float, written: float, outlook: Outlook) -> float:
    price = _prices(tier)
    tokens = price.read * read + price.write * written
    return (tokens + price.output * outlook.output_tokens) / 1e6


def _ranked(tiers: Sequence[TierFacts]) -> list[TierFacts]:
    if not tiers:
        raise ConfigError("there is no tier to choose from", hint="give at least one tier")
    for tier in tiers:
        _prices(tier)
    return sorted(tiers, key=lambda tier: tier.rank)


def _prices(tier: TierFacts) -> TierPrices:
    if tier.prices is None:
        raise ConfigError(f"tier {tier.name!r} has no prices", hint="give TierFacts(prices=...)")
    return tier.prices


def _chance(tier: TierFacts, success: Mapping[str, float]) -> float:
    """Return the probability that a tier's draft is right."""
    known = 0.5 if tier.success is None else tier.success
    return min(1.0, max(0.0, success.get(tier.name, known)))
