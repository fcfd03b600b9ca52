"""What a log would cost under each design, replayed through the vendors' billing rules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agentmesh.audit.workload import Complexity
from agentmesh.economy.billing import Block, Point, PrefixCache
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import ModelName, semantics
from agentmesh.economy.usage import Usage
from agentmesh.errors import ConfigError

Design = Literal["as logged", "cached well", "routed", "with a student", "all together"]

DESIGNS: tuple[Design, ...] = (
    "as logged",
    "cached well",
    "routed",
    "with a student",
    "all together",
)
STUDENT = "student:local"
STUDENT_PRICE = Price("0.05", "0.20", read="0.01")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the comparison takes for granted; printed with every report."""

    standard: ModelName = "anthropic:claude-haiku-5-5"
    student: ModelName = STUDENT
    student_price: Price = STUDENT_PRICE
    student_success: float = 0.9
    standard_success: float = 0.97
    step_s: float = 10.0
    unpriced_as: ModelName | None = None

    def __post_init__(self) -> None:
        for name in ("student_success", "standard_success"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} is no share", hint="above 0, at most 1"
                )
        if self.step_s <= 0:
            raise ConfigError(f"step_s={self.step_s!r} is no time", hint="seconds above zero")

    def lines(self) -> list[str]:
        """Return the assumptions as sentences."""
        price = self.student_price
        local = f"a local model at ${price.input} / ${price.output} a million tokens"
        logged = (
            "As logged: the log's own usage where it tells of the cache, else the vendor's rules"
        )
        share = f"{self.standard_success:.0%} succeed there and the rest are made again"
        times = f"Where the log has no times, a step takes {self.step_s:g} s"
        return [
            "Prices are today's list prices, or those of the price file.",
            "A token is four characters, scaled to the log's own counts where it has them.",
            f"{logged} for the request as it was sent.",
            "Cached well: stable parts first, a breakpoint after the shared part and at the end.",
            f"Routed: simple steps go to {self.standard}, {share} on the logged model; cached well.",
            f"With a student: simple steps go to {local}, {self.student_success:.0%} succeed.",
            f"All together: simple steps to the student, moderate ones to {self.standard}.",
            f"{times}, and conversations follow one another.",
        ]


class Slot(NamedTuple):
    """What is priced alike: the model billed, the model logged, and on which side of a cliff."""

    model: ModelName
    logged: ModelName
    beyond: bool


@dataclass
class Bill:
    """One design's tokens, added up by what is priced alike."""

    slots: dict[Slot, list[int]] = field(default_factory=dict)
    calls: int = 0

    def add(self, slot: Slot, usage: Usage, output: int) -> None:
        """Count a call."""
        row = self.slots.get(slot)
        if row is None:
            row = self.slots[slot] = [0] * 5
        row[0] += usage.fresh
        row[1] += usage.read
        row[2] += usage.write
        row[3] += usage.write_long
        row[4] += output
        self.calls += 1


class Billed(NamedTuple):
    """A design's bill: micro-dollars, calls, and the share of the input that was read."""

    cost: int
    calls: int
    read_share: float


class Request(NamedTuple):
    """One step of a log, as the designs need it.

    `model` is the logged one; `marked` are the same blocks as `plain`, with good breakpoints, and
    `points` their prefixes. `used` is what the log says was billed, where it tells of the cache.
    """

    model: ModelName
    plain: Sequence[Block]
    marked: Sequence[Block]
    points: Sequence[Point]
    at: float
    output: int
    complexity: Complexity
    used: Usage | None = None
    was_marked: bool = False


class _Desk(NamedTuple):
    """One design's cache of one model, and from where on the model charges more."""

    cache: PrefixCache
    cliff: float
    bill: Bill


class Replay:
    """All designs side by side, each with caches of its own."""

    def __init__(self, assumptions: Assumptions, prices: PriceBook) -> None:
        self.assumptions = assumptions
        self._prices = prices
        self._desks: dict[tuple[Design, ModelName], _Desk] = {}
        self._bills: dict[Design, Bill] = {design: Bill() for design in DESIGNS}
        self._priced: dict[ModelName, bool] = {}
        self._now = 0.0
        self._failing: dict[tuple[Design, ModelName], float] = defaultdict(float)
        own = assumptions
        student, standard = (own.student, own.student_success), (own.standard, own.standard_success)
        self._cheaper: dict[Complexity, tuple[tuple[Design, tuple[ModelName, float] | None], ...]]
        self._cheaper = {
            "simple": (
                ("routed", standard),
                ("with a student", student),
                ("all together", student),
            ),
            "moderate": (
                ("routed", None),
                ("with a student", None),
                ("all together", standard),
            ),
            "complex": (("routed", None), ("with a student", None), ("all together", None)),
        }
        if not self.priced(own.standard):
            raise ConfigError(
                f"the price of {own.standard!r} is unknown", hint="name another model, or its price"
            )

    def priced(self, model: ModelName) -> bool:
        """Return whether a model's price is known, so that its calls can be compared."""
        if model not in self._priced:
            self._priced[model] = bool(model) and self._price(model, 0) is not None
        return self._priced[model]

    def step(self, request: Request) -> None:
        """Bill one step under each design."""
        self._now = request.at
        well = self._bill("cached well", request.model, request, request.marked)
        self._as_logged(request, well)
        for design, choice in self._cheaper[request.complexity]:
            if choice is not None:
                self._bill(design, choice[0], request, request.marked)
                if not self._fails(design, *choice):
                    continue
            self._bill(design, request.model, request, request.marked)

    def _as_logged(self, request: Request, well: Usage) -> None:
        """Bill a step as it was: by the log's word, by its marks, or without any."""
        model, bill = request.model, self._bills["as logged"]
        desk = self._desks["cached well", model]
        total = request.points[-1].tokens if request.points else 0
        if request.used is not None:
            slot = Slot(model, "", request.used.input > desk.cliff)
            bill.add(slot, request.used, request.used.output or request.output)
            return
        family = desk.cache.semantics.family
        if family == "openai-explicit" and not request.was_marked:
            self._bill("as logged", model, request, request.plain)
            return
        # marks mean nothing to a cache that works by itself, and without one Claude caches nothing
        sent = Usage(total) if family == "anthropic" and not request.was_marked else well
        bill.add(Slot(model, model, total > desk.cliff), sent, request.output)

    def bills(self, scale: Mapping[ModelName, float]) -> dict[Design, Billed]:
        """Return each design's bill; `scale` says how many tokens of a model one of ours is."""
        return {design: self._total(bill, scale) for design, bill in self._bills.items()}

    def _bill(
        self, design: Design, model: ModelName, request: Request, blocks: Sequence[Block]
    ) -> Usage:
        desk = self._desks.get((design, model))
        if desk is None:
            rules = semantics(model)
            cache = PrefixCache(rules, clock=lambda: self._now)
            desk = _Desk(cache, rules.cliff or math.inf, self._bills[design])
            self._desks[design, model] = desk
        lookup = desk.cache.look_up(blocks, at=request.at, points=request.points)
        desk.cache.begin(lookup)
        beyond = bool(request.points) and request.points[-1].tokens > desk.cliff
        desk.bill.add(Slot(model, request.model, beyond), lookup.usage, request.output)
        return lookup.usage

    def _fails(self, design: Design, model: ModelName, success: float) -> bool:
        """Say whether this draft is one that fails: evenly spread, at the assumed rate."""
        self._failing[design, model] += 1 - success
        if self._failing[design, model] < 1 - 1e-9:
            return False
        self._failing[design, model] -= 1
        return True

    def _price(self, model: ModelName, tokens: int) -> Price | None:
        if model == self.assumptions.student:
            own = self._prices.price(model)
            return own or self.assumptions.student_price.complete(model)
        found = self._prices.price(model, input_tokens=tokens)
        if found is None and self.assumptions.unpriced_as:
            found = self._prices.price(self.assumptions.unpriced_as, input_tokens=tokens)
        return found

    def _total(self, bill: Bill, scale: Mapping[ModelName, float]) -> Billed:
        cost = read = input_ = 0
        for slot, row in bill.slots.items():
            cliff = semantics(slot.model).cliff or 0
            price = self._price(slot.model, cliff + 1 if slot.beyond else 0)
            if price is None:
                continue
            by = scale.get(slot.logged, 1.0)
            fresh, hit, short, long = (round(tokens * by) for tokens in row[:4])
            usage = Usage(fresh, hit, short, long, row[4])
            cost += price.cost(usage)
            read, input_ = read + usage.read, input_ + usage.input
        return Billed(cost, bill.calls, read / input_ if input_ else 0.0)
