"""What another router had chosen on the ledger's own turns, and about what that had cost.

A turn that it would have given to the tier that took it costs what was paid. Any other is an
estimate: the tokens of the turn's accepted drafts at the other tier's prices, with a cold cache at
first, and the turn as it was paid on top wherever the cheaper tier would have failed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError
from agentmesh.routers.lessons import said
from agentmesh.routing import Step, TierFacts, TierPrices

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.routing import Router


class Change(NamedTuple):
    """A turn that the other router had given to another tier; costs are in micro-dollars."""

    message: str
    text: str
    was: str
    now: str
    reason: str
    paid: int
    expected: float


class Replayed(NamedTuple):
    """Turns and dollars by tier, as they were and as they had been expected to be."""

    turns: int
    unpriced: int
    was: Counter[str]
    now: Counter[str]
    paid: int
    expected: float
    changes: list[Change]
    newly_blocked: list[str]
    newly_admitted: list[str]


def replay(
    memory: Memory, router: Router, *, agent: str = "", prices: PriceBook | None = None
) -> Replayed:
    """Run a router over every turn that the ledger knows; nothing is called and nothing stored."""
    turns: dict[tuple[str, int], list[Call]] = defaultdict(list)
    for call in memory.ledger.calls():
        if call.purpose == "act" and agent in ("", call.agent):
            turns[call.session, call.turn].append(call)
    if not turns:
        raise InputError("the ledger has no turn to replay", hint="is it the right database?")
    book = Book([call for made in turns.values() for call in made], prices)
    messages = {(one.session, one.turn): one for one in said(memory)}
    changes, was, now = list[Change](), Counter[str](), Counter[str]()
    paid, expected, unpriced = 0, 0.0, 0
    for key, made in turns.items():
        message = messages.get(key)
        if message is None or any(call.cost is None for call in made):
            unpriced += 1
            continue
        cost = sum(call.cost or 0 for call in made)
        tiers = book.tiers(made[0])
        chosen = router.route(book.step(message.text, made[0]), tiers)
        estimate = _estimate(book, made, chosen.tier, chosen.chances.get(chosen.tier, 1.0), cost)
        was[made[0].tier] += 1
        now[chosen.tier] += 1
        paid, expected = paid + cost, expected + estimate
        if chosen.tier != made[0].tier:
            told = (message.id, message.text, made[0].tier, chosen.tier, chosen.reason)
            changes.append(Change(*told, cost, estimate))
    verdicts = [
        (one, router.admit(one.text, first=one.turn == 1).allowed) for one in messages.values()
    ]
    return Replayed(
        sum(was.values()),
        unpriced,
        was,
        now,
        paid,
        expected,
        changes,
        [one.id for one, allowed in verdicts if not allowed and not one.blocked],
        [one.id for one, allowed in verdicts if allowed and one.blocked],
    )


class Book:
    """The tiers that a ledger knows, cheapest first, and their prices.

    A model that no price list knows is priced by what its own tokens cost in the ledger.
    """

    def __init__(self, calls: Sequence[Call], prices: PriceBook | None = None) -> None:
        self._prices = prices or PriceBook()
        self._models = {call.tier: call.model for call in calls}
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for call in calls:
            if call.cost is not None:
                sums[call.model][0] += call.cost
                sums[call.model][1] += call.usage.input + call.usage.output
        self._rates = {model: cost / max(1, tokens) for model, (cost, tokens) in sums.items()}
        self.names = sorted(self._models, key=lambda tier: self.rate(self._models[tier]))

    def rate(self, model: str) -> float:
        """Return micro-dollars per token, as paid on average."""
        return self._rates.get(model, 0.0)

    def model(self, tier: str) -> str:
        """Return a tier's model."""
        return self._models[tier]

    def cost(self, tier: str, usage: Usage) -> float:
        """Return micro-dollars of a usage at a tier's prices."""
        model = self._models[tier]
        known = self._prices.cost(model, usage)
        return self.rate(model) * (usage.input + usage.output) if known is None else known

    def step(self, text: str, call: Call) -> Step:
        """Return the step that a turn's first call answered."""
        return Step(
            text,
            turn=call.turn,
            step=call.step,
            prompt_tokens=call.usage.input,
            user=call.user,
            session=call.session,
        )

    def tiers(self, call: Call) -> list[TierFacts]:
        """Return what a router is told of every tier; only the tier that was called is warm."""
        return [
            TierFacts(
                name,
                self._models[name],
                rank,
                prices=self.prices(name, call.usage.input),
                warm=call.usage.read if name == call.tier else 0,
            )
            for rank, name in enumerate(self.names)
        ]

    def prices(self, tier: str, tokens: int) -> TierPrices | None:
        """Return a tier's prices in dollars per million tokens; None where nothing is known."""
        from agentmesh.economy.cost_model import Rates
        from agentmesh.economy.semantics import semantics

        model = self._models[tier]
        price = self._prices.price(model, input_tokens=tokens)
        if price is not None:
            rates = Rates.from_price(price.complete(model), semantics(model))
            return TierPrices(rates.fresh, rates.output, rates.read, rates.write)
        rate = self.rate(model)
        return TierPrices(rate, rate, rate, rate) if rate else None


def _estimate(book: Book, made: Sequence[Call], tier: str, chance: float, paid: int) -> float:
    """Return the expected cost of a turn in micro-dollars, had it been given to `tier`."""
    if tier == made[0].tier:
        return float(paid)
    accepted = [call for call in made if call.outcome == "ok"]
    if tier in {call.tier for call in made}:  # it took over, and had begun
        return book.cost(tier, _cold(accepted)) if accepted else float(paid)
    failing = (1 - chance) * paid if book.names.index(tier) < book.names.index(made[0].tier) else 0
    return book.cost(tier, _cold(accepted)) + failing


def _cold(calls: Sequence[Call]) -> Usage:
    """Return the tokens of some calls on a tier that has nothing cached at first."""
    total = Usage()
    for number, call in enumerate(calls):
        one = call.usage
        if not number:
            one = replace(one, read=0, write=one.write + one.read)
        total += one
    return total
