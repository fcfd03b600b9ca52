"""The choice by expected cost: a switch pays once, and saves or loses on every step after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.guard import Guard
from agentmesh.routing.steps import TierFacts, TierPrices

STAKED = 5.0
"""So many drafts of each lower tier may a short session lose at its start."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the rest of a session: steps, and tokens in and out per step.

    `later` holds the tiers' chances at steps that the later ones are expected to be like, such as
    the session's last ones; without it they are taken to be like this step. The prompt's first
    `shared_tokens` are those of `sharers` sessions, which follow each other before it grows cold:
    each pays its part of writing them, or no session would ever begin on a tier that others left.
    """

    steps: float = 6.0
    new_tokens: float = 700.0
    output_tokens: float = 300.0
    check_usd: float = 0.0
    later: Sequence[Mapping[str, float]] = ()
    shared_tokens: int = 0
    sharers: float = 1.0

    def __post_init__(self) -> None:
        if not self.steps >= 1:
            raise ConfigError(f"steps={self.steps!r}", hint="at least this step remains")
        if min(self.new_tokens, self.output_tokens, self.check_usd, self.shared_tokens) < 0:
            raise ConfigError("tokens and costs are 0 or more", hint="see Outlook")
        if not self.sharers >= 1:
            raise ConfigError(f"sharers={self.sharers!r}", hint="this session is one of them")
        for chances in self.later:
            for tier, chance in chances.items():
                if not 0 <= chance <= 1:
                    raise ConfigError(f"later: {tier!r} has {chance!r}", hint="give probabilities")


def expected_costs(
    prompt_tokens: int,
    tiers: Sequence[TierFacts],
    success: Mapping[str, float],
    outlook: Outlook | None = None,
) -> dict[str, float]:
    """Return the dollars that the rest of the session costs by the tier that this step is done on.

    A step costs `read * warm + write * (length - warm) + out * E[out]`. A failed draft is paid,
    checked, and made again by the tier above for which that is cheapest; the top tier has nobody
    above it. Later steps are chosen in the same manner among the tiers that it pays to keep warm:
    such a tier must be shown everything once, whoever wrote it, and reads it from then on. So
    what a tier writes now it need not write when the session comes back to it, and warmth makes
    a session stick to its tiers without any rule that says so.
    """
    outlook = outlook or Outlook()
    order = _ranked(tiers)
    chances = _chances(order, success)
    alike = [_chances(order, {**success, **then}) for then in outlook.later] or [chances]
    ways = _ways(prompt_tokens, order, alike, outlook)
    sums = _Sums(prompt_tokens, order, chances, ways, outlook)
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
    *,
    new_tokens: int | None = None,
) -> Choice:
    """Return the tier on which the session is expected to cost least, as far as `guard` allows.

    `new_tokens` are those that no tier has been shown yet, `outlook.new_tokens` if not given.
    """
    outlook = outlook or Outlook()
    costs = expected_costs(prompt_tokens, tiers, success, outlook)
    best = min(costs, key=costs.__getitem__)
    if guard is None:
        return Choice(best, costs)
    new = int(outlook.new_tokens) if new_tokens is None else new_tokens
    allowed = [t for t in tiers if may_lose(t, prompt_tokens, new, tiers, guard, outlook)]
    safe = min((tier.name for tier in allowed), key=costs.__getitem__)
    return Choice(safe, costs, held=safe != best)


def may_lose(
    tier: TierFacts,
    prompt_tokens: int,
    new_tokens: int,
    tiers: Sequence[TierFacts],
    guard: Guard,
    outlook: Outlook | None = None,
    *,
    lost: float = 0.0,
) -> bool:
    """Return whether a draft of `tier` may fail within the guard's bound; the top tier's always may.

    `lost` are the dollars of this step's drafts that have failed already.
    """
    outlook = replace(outlook or Outlook(), sharers=1.0)  # a bound is no expectation
    top = _ranked(tiers)[-1]
    if tier.name == top.name:
        return True
    draft = lost + step_usd(tier, prompt_tokens, outlook) + outlook.check_usd
    again = step_usd(top, prompt_tokens, outlook)
    alone = alone_usd(prompt_tokens, new_tokens, tiers, outlook, had=guard.had)
    return guard.admits(draft, again, alone)


def alone_usd(
    prompt_tokens: int,
    new_tokens: int,
    tiers: Sequence[TierFacts],
    outlook: Outlook | None = None,
    *,
    had: int = 0,
) -> float:
    """Return the dollars that this step costs a session whose every step the top tier makes.

    It has cached all but the newest tokens, and what it has cached in truth. What it `had` cached
    in truth after the step before, and has no more, it is taken to have lost in any case.
    """
    top = _ranked(tiers)[-1]
    gone = max(0, had - top.warm)
    read = min(prompt_tokens, max(prompt_tokens - new_tokens - gone, top.warm))
    return _usd(top, read, prompt_tokens - read, outlook or Outlook())


def stake_usd(
    prompt_tokens: int,
    new_tokens: int,
    tiers: Sequence[TierFacts],
    outlook: Outlook | None = None,
    *,
    limit: float,
    saved: float = 0.0,
) -> float:
    """Return what a session may lose at its start: see `Guard`.

    That is `limit` of what the top tier alone is expected to cost for all of `outlook.steps`.
    Where that does not buy one draft of each tier below the top, it is five of each: a router
    that may lose nothing could never try one. Or it is what an agent's other sessions have
    `saved` beside the top tier alone, if that is more: lost, it leaves their sum no dearer.
    """
    outlook = replace(outlook or Outlook(), sharers=1.0)
    order, growth = _ranked(tiers), int(_growth(outlook))
    middle = int(prompt_tokens + growth * outlook.steps / 2)
    drafts = sum(step_usd(tier, prompt_tokens, outlook) for tier in order[:-1])
    rest = (outlook.steps - 1) * alone_usd(middle, growth, order, outlook)
    share = limit * (alone_usd(prompt_tokens, new_tokens, order, outlook) + rest)
    return max(share if share >= drafts else STAKED * drafts, saved)


class _Way(NamedTuple):
    """A set of tiers for the later steps: what the steps cost, what of all each tier is shown."""

    cost: float
    visited: tuple[float, ...]


class _Sums(NamedTuple):
    """One step's expected costs: tiers cheapest first, with their chances now."""

    length: int
    tiers: Sequence[TierFacts]
    chances: Sequence[float]
    ways: Sequence[_Way]
    outlook: Outlook

    def begun(self, i: int, shown: frozenset[int]) -> float:
        """Return what the session costs if tier `i` is next, those in `shown` having failed."""
        done = shown | {i}
        cost = step_usd(self.tiers[i], self.length, self.outlook)
        fails = _fails(i, max(shown, default=None), self.chances)
        if fails:
            above = min(self.begun(j, done) for j in range(i + 1, len(self.tiers)))
            cost += fails * (self.outlook.check_usd + above)
        return cost + (1 - fails) * self.rest(done)

    def rest(self, shown: frozenset[int]) -> float:
        """Return what the later steps cost, on those of the tiers that it pays to keep warm."""
        added = _growth(self.outlook) * (self.outlook.steps - 1)
        owed = []
        for i, tier in enumerate(self.tiers):
            behind = 0.0 if i in shown else _behind(tier, self.length, self.outlook)
            price = _prices(tier)
            owed.append((price.write - price.read) * (behind + added) / 1e6)
        return min(way.cost + sum(map(mul, way.visited, owed), 0.0) for way in self.ways)


def _ways(
    length: int, tiers: Sequence[TierFacts], alike: Sequence[Sequence[float]], outlook: Outlook
) -> list[_Way]:
    """Return the ways to go on, from some lowest tier up; a step is likely one of `alike`."""
    steps = outlook.steps - 1
    mean = length + _growth(outlook) * (steps + 1) / 2
    drafts = [_usd(tier, mean, 0, outlook) for tier in tiers]
    ways = []
    for lowest in range(len(tiers)):
        paths = [_path(lowest, None, drafts, chances, outlook.check_usd) for chances in alike]
        parts = [sum(path.visits.get(i, 0.0) for path in paths) for i in range(len(tiers))]
        visited = tuple(1 - (1 - min(1.0, part / len(paths))) ** steps for part in parts)
        ways.append(_Way(steps * sum(path.cost for path in paths) / len(paths), visited))
    return ways


class _Path(NamedTuple):
    """The cheapest order of tiers for a step: its cost, and how probable each one's turn is."""

    cost: float
    visits: dict[int, float]


def _path(
    lowest: int,
    failed: int | None,
    drafts: Sequence[float],
    chances: Sequence[float],
    check: float,
) -> _Path:
    """Return the cheapest path from tier `lowest` up where all caches are warm."""
    paths = []
    for i in range(lowest, len(drafts)):
        fails = _fails(i, failed, chances)
        cost, visits = drafts[i], {i: 1.0}
        if fails:
            above = _path(i + 1, i, drafts, chances, check)
            cost += fails * (check + above.cost)
            visits |= {j: fails * share for j, share in above.visits.items()}
        paths.append(_Path(cost, visits))
    return min(paths, key=lambda path: path.cost)


def _fails(i: int, failed: int | None, chances: Sequence[float]) -> float:
    """Return how probable it is that a tier fails, given that a lower one has; the top never."""
    if i == len(chances) - 1:
        return 0.0
    known = 0.0 if failed is None else chances[failed]
    return min(1.0, (1 - chances[i]) / (1 - known)) if known < 1 else 1.0


def step_usd(tier: TierFacts, length: int, outlook: Outlook) -> float:
    """Return what one draft of a tier costs now, by what it has cached."""
    behind = _behind(tier, length, outlook)
    return _usd(tier, length - behind, behind, outlook)


def _behind(tier: TierFacts, length: int, outlook: Outlook) -> float:
    """Return how many tokens a tier must be shown, of the shared ones this session's part."""
    shared = max(0, min(outlook.shared_tokens, length) - tier.warm)
    return max(0, length - tier.warm) - shared * (1 - 1 / outlook.sharers)


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


def _chances(order: Sequence[TierFacts], success: Mapping[str, float]) -> list[float]:
    """Return the probability that each tier's draft is right; the top one's is taken to be."""
    known = [0.5 if tier.success is None else tier.success for tier in order[:-1]]
    given = (success.get(tier.name, one) for tier, one in zip(order, known, strict=False))
    return [*(min(1.0, max(0.0, chance)) for chance in given), 1.0]


def _growth(outlook: Outlook) -> float:
    return outlook.new_tokens + outlook.output_tokens
