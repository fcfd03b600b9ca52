"""What each choice costs: one sum for tiers, switches, escalations, compaction and idle time.

Everything here is a pure function of prices, cache rules and a few numbers about the session. All
amounts are micro-dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agentmesh.economy.planner import MARKED_FAMILIES
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import CacheSemantics, ModelName, semantics
from agentmesh.errors import ConfigError

Escalation = Literal["anchor", "brief", "replay"]
"""How a bigger tier is told what happened: from what it still has cached, by a short account, or
by everything from the start."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per token of a model, at one length of the prompt."""

    fresh: float
    read: float
    write: float
    write_long: float
    output: float

    @classmethod
    def of(
        cls, model: ModelName, prices: PriceBook, *, tokens: int = 0, at: float | None = None
    ) -> Rates:
        """Return a model's rates for a prompt of that many tokens.

        Raises:
            ConfigError: nobody knows the model's price.
        """
        price = prices.price(model, input_tokens=tokens, at=at)
        if price is None:
            raise ConfigError(
                f"the price of {model!r} is unknown", hint="give it in a price file or a Tier"
            )
        return cls.from_price(price.complete(model), semantics(model))

    @classmethod
    def from_price(cls, price: Price, rules: CacheSemantics) -> Rates:
        """Return the rates of a complete price; what caches by itself writes at no extra charge."""
        marked = rules.family in MARKED_FAMILIES
        fresh = float(price.input)
        cached = rules.family != "none" and price.read is not None
        return cls(
            fresh=fresh,
            read=float(price.read) if cached and price.read is not None else fresh,
            write=float(price.write) if marked and price.write is not None else fresh,
            write_long=float(price.write_long)
            if marked and price.write_long is not None
            else fresh,
            output=float(price.output),
        )


class Outlook(NamedTuple):
    """What is expected of a session from here on, this step included."""

    steps: float = 1.0
    growth: float = 500.0
    output: float = 150.0


class Option(NamedTuple):
    """A tier as a candidate: its rates, what of the prompt it has cached, how often it succeeds.

    `check` is what judging its draft costs, `escalation` what a failure costs on top.
    """

    name: str
    rates: Rates
    warm: int
    success: float = 1.0
    check: float = 0.0
    escalation: float = 0.0


def step_cost(option: Option, length: int, output: float) -> float:
    """Return what one step on a tier costs: input by what is warm, output, and the risk.

    >>> opus = Rates(fresh=4.0, read=0.2, write=5.0, write_long=8.0, output=20.0)
    >>> step_cost(Option("flagship", opus, warm=9_000), 10_000, output=100)
    8800.0
    """
    warm = min(option.warm, length)
    rates = option.rates
    run = rates.read * warm + rates.write * (length - warm) + rates.output * output
    return run + option.check + (1 - option.success) * option.escalation


def horizon_cost(option: Option, length: int, outlook: Outlook) -> float:
    """Return what the session's remaining steps cost on a tier: cold once, warm from then on."""
    first = step_cost(option, length, outlook.output)
    later = outlook.steps - 1
    if later <= 0:
        return first
    mean = length + outlook.growth * (later - 1) / 2
    per_step = (
        option.rates.read * mean
        + option.rates.write * outlook.growth
        + option.rates.output * outlook.output
        + option.check
        + (1 - option.success) * option.escalation
    )
    return first + later * per_step


def cheapest(options: Sequence[Option], length: int, outlook: Outlook) -> Option:
    """Return the tier on which the rest of the session costs least; the first of equal ones."""
    if not options:
        raise ConfigError("no tier to choose from", hint="give at least one option")
    return min(options, key=lambda option: horizon_cost(option, length, outlook))


def break_even(stay: Option, switch: Option, length: int, outlook: Outlook) -> float:
    """Return after how many steps a switch has paid for itself; infinity if it never does."""
    one = Outlook(1, outlook.growth, outlook.output)
    extra = horizon_cost(switch, length, one) - horizon_cost(stay, length, one)
    if extra <= 0:
        return 1.0

    def saved(steps: float) -> float:
        ahead = Outlook(steps, outlook.growth, outlook.output)
        return horizon_cost(stay, length, ahead) - horizon_cost(switch, length, ahead)

    low, high = 1.0, 2.0
    while saved(high) < 0:
        low, high = high, high * 2
        if high > 1e6:
            return math.inf
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) < 0 else (low, middle)
    return math.ceil(high)


class Handover(NamedTuple):
    """How an escalation is told, and what its input costs."""

    how: Escalation
    cost: float


def handover(
    rates: Rates, length: int, *, anchor: int = 0, shared: int = 0, brief: int | None = None
) -> Handover:
    """Return the cheapest way to let a bigger tier take over a step.

    Args:
        rates: of the tier that takes over.
        length: tokens of the whole prompt.
        anchor: tokens that it still has cached of this session; 0 if it has fallen cold.
        shared: tokens of the layers that it has cached from other sessions.
        brief: tokens of a short account in place of the log; None where quality forbids one.
    """
    ways = [Handover("replay", rates.read * shared + rates.write * max(0, length - shared))]
    if anchor > shared:
        ways.append(Handover("anchor", rates.read * anchor + rates.write * max(0, length - anchor)))
    if brief is not None:
        ways.append(Handover("brief", rates.read * shared + rates.write * brief))
    return min(ways, key=lambda way: way.cost)


class WaterMarks(NamedTuple):
    """When the log is compacted, and to what: tokens of the whole prompt."""

    high: int
    low: int


def water_marks(
    rates: Rates,
    *,
    frozen: int,
    growth: float,
    digest: int = 800,
    kept: int = 2_000,
    ceiling: int = 100_000,
    cliff: int | None = None,
) -> WaterMarks:
    """Return the marks between which the history's saw-tooth costs least.

    A step reads on average half way between the marks; each compaction pays once for reading the
    log, writing the digest and writing what is kept. The root of that sum is the high mark.

    Args:
        rates: of the model that serves the session.
        frozen: tokens before the log, which a compaction keeps cached.
        growth: tokens that a step adds.
        digest: tokens of the account that replaces the log's old part.
        kept: tokens of the newest entries, the floor that quality asks for.
        ceiling: tokens that the prompt never exceeds, whatever it would save.
        cliff: from where on the vendor charges more for the whole prompt.
    """
    low = frozen + digest + kept
    top = min(ceiling, cliff - 1) if cliff is not None else ceiling
    if top <= low + growth:
        raise ConfigError(
            f"no room to grow between {low} and {top} tokens",
            hint="raise the ceiling, or keep fewer tokens of the log",
        )
    # Reading one more token at every step of a tooth, against a compaction's fixed price.
    fixed = rates.output * digest + rates.write * (digest + kept) + rates.read * low
    spread = math.sqrt(2 * growth * fixed / rates.read) if rates.read > 0 else math.inf
    return WaterMarks(high=int(min(top, max(low + 2 * growth, low + spread))), low=int(low))


def tooth_cost(rates: Rates, marks: WaterMarks, growth: float, digest: int, kept: int) -> float:
    """Return what one step costs, on average, between two water marks."""
    span = marks.high - marks.low
    once = rates.read * marks.high + rates.output * digest + rates.write * (digest + kept)
    return rates.read * (marks.low + marks.high) / 2 + rates.write * growth + once * growth / span


class Idle(NamedTuple):
    """What to do about a session that is about to fall cold, and what is expected to come of it."""

    action: Literal["nothing", "keep", "compact"]
    cost: float


def before_cold(
    rates: Rates,
    *,
    length: int,
    low: int,
    digest: int,
    back: float,
    back_soon: float,
) -> Idle:
    """Return what costs least just before a session's cache runs out.

    Args:
        rates: of the model that serves the session.
        length: tokens that are cached now.
        low: tokens that a compaction would leave.
        digest: tokens of the account that a compaction writes.
        back: probability that the user comes back at all.
        back_soon: probability that they come back within one more time to live.
    """
    for name, share in (("back", back), ("back_soon", back_soon)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{name}={share!r} is no probability", hint="between 0 and 1")
    later = max(0.0, back - back_soon)
    ways = [
        Idle("nothing", back * rates.write * length),
        Idle(
            "keep",
            rates.read * length + back_soon * rates.read * length + later * rates.write * length,
        ),
        Idle("compact", rates.read * length + rates.output * digest + back * rates.write * low),
    ]
    return min(ways, key=lambda way: way.cost)


def fan_out_saving(rates: Rates, prefix: int, branches: int) -> float:
    """Return what is saved if branches wait for the first one's token before they start."""
    return max(0, branches - 1) * max(0.0, rates.write - rates.read) * prefix
