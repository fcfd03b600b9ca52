"""What each tier would be paid for the next draft, and whether it is a choice at all."""

from __future__ import annotations

from dataclasses import replace

from agentmesh.attempts import Attempts
from agentmesh.economy.cost_model import Handover, Rates, handover
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.memory import Turn
from agentmesh.parts import Parts
from agentmesh.routing import Health, Pace, TierFacts, TierPrices
from agentmesh.tiers import Tier


class Prospects:
    """Looks ahead for one agent's router: prices, warmth, health and pace of its tiers."""

    def __init__(self, parts: Parts, attempts: Attempts, health: Health, pace: Pace) -> None:
        self._parts = parts
        self._attempts = attempts
        self._health = health
        self._pace = pace

    def facts(self, turn: Turn, rank: int, tier: Tier) -> TierFacts:
        """Return what a tier would be paid for the next draft, and what it has cached of it."""
        planned = self._attempts.planned(self._attempts.ready(turn, tier, "", 0))
        rates = self._rates(tier, planned)
        prices = TierPrices(rates.fresh, rates.output, rates.read, rates.write) if rates else None
        return TierFacts(
            tier.name,
            tier.model_name,
            rank,
            prices=prices,
            warm=planned.read,
            available=any(self._choosable(model, planned) for model in tier.models),
        )

    def takeover(self, turn: Turn, tier: Tier) -> Handover | None:
        """Return the cheapest way to let a tier take over a step, and its micro-dollars.

        From what it still has cached of the session, by everything from the start, or by what its
        `handoff` shows, where the developer has said what that is; None without a price.
        """
        whole = self._attempts.ready(turn, tier, "", 0)
        planned = self._attempts.planned(whole)
        rates = self._rates(tier, planned)
        if rates is None:
            return None
        layers = [point.tokens for point in whole.seen.points if point.shared]
        shared = min(planned.read, max(layers, default=0))
        brief = None
        if tier.handoff is not None:
            short = self._attempts.ready(turn, tier, "", 0, tier.handoff)
            brief = max(0, short.seen.tokens - shared)
        way = handover(rates, planned.input, anchor=planned.read, shared=shared, brief=brief)
        return way._replace(cost=way.cost + rates.output * planned.output)

    def _rates(self, tier: Tier, planned: Usage) -> Rates | None:
        """Return what a tier's tokens cost at a prompt's length; None where nobody knows."""
        price = self._parts.prices.price(tier.model_name, input_tokens=planned.input)
        if price is None:
            return None
        rules = semantics(tier.model_name)
        rates = Rates.from_price(price.complete(tier.model_name), rules)
        if tier.cache and tier.ours and planned.input >= rules.minimum:
            return rates
        return replace(rates, read=rates.fresh, write=rates.fresh, write_long=rates.fresh)

    def _choosable(self, model: Tier, planned: Usage) -> bool:
        """Say whether a model is a choice now: in health, within its rate, and fast enough."""
        name, tokens = model.model_name, planned.input + planned.output
        return (
            self._health.available(name)
            and not self._pace.wait_s(name, model.rate, tokens)
            and not self._pace.slow(name, model.rate)
        )
