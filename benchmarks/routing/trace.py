"""Sessions routed step by step and billed by the emulator's rules, against every other way.

A step is fit for the small tier or not. The router sees a probability and never the truth; a
draft of the small tier at a step that it is not fit for fails its check, is paid, and is made
again by the large tier. So every way ends with the same answers, and only the bill differs.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from agentmesh import canonical
from agentmesh.economy.billing import Block, Point, PrefixCache, digest, prefixes
from agentmesh.economy.planner import place_marks, positions
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.prompt import Entry
from agentmesh.routing import (
    Guard,
    Outlook,
    Streak,
    TierFacts,
    TierPrices,
    alone_usd,
    choose,
    stake_usd,
)

START = 1_795_000_000.0
STEP_S = 5.0
STEPS, PREFIX, RESULT = 100, 8_000, 700
OUTPUT = 300
"""Tokens of an answer, as `Outlook` takes it to be by default."""
FIT, KEEP = 0.6, 0.7
INSIGHT = 2.0
"""How well the router's probabilities tell fit from unfit: 2 standard deviations, AUROC .92."""
Layers = tuple[tuple[str, int], ...]
PRICES = PriceBook()


class Pair(NamedTuple):
    """A small tier and a large one."""

    small: str
    large: str


class Asked(NamedTuple):
    """One step of a session: what is shown, what its answer will be, and who could make it.

    `left` is how many steps the router expects with this one, `result` and `told` what a step has
    added so far on average, in results and in answers. `chance` is what the router is told of the
    small tier, `ok` the truth.
    """

    session: str
    frozen: str
    layers: Layers
    entries: Sequence[Entry]
    shown: int
    length: int
    new: int
    result: float
    told: float
    output: int
    at: float
    left: float
    ok: bool
    chance: float


class Timed(NamedTuple):
    """When a step is made, how many entries it is shown, and how many steps are expected."""

    at: float
    shown: int
    left: float


def session(
    name: str,
    layers: Layers,
    entries: Sequence[Entry],
    steps: Sequence[Timed],
    truth: Iterable[tuple[bool, float]],
    *,
    frozen: str,
    output: int = OUTPUT,
) -> Iterator[Asked]:
    """Yield the steps of a session; `frozen` stands for the text of its layers."""
    base = sum(tokens for _, tokens in layers)
    before = added = told = 0
    for number, (step, (ok, chance)) in enumerate(zip(steps, truth, strict=True)):
        for one in entries[before : step.shown]:
            added, told = added + one.tokens, told + one.tokens * (one.kind == "assistant")
        new = sum(one.tokens for one in entries[before : step.shown])
        answer = entries[step.shown].tokens if step.shown < len(entries) else output
        yield Asked(
            session=name,
            frozen=frozen,
            layers=layers,
            entries=entries,
            shown=step.shown,
            length=base + added,
            new=new if before else base + added,
            result=(added - told) / (number + 1),
            told=told / number if number and told else output,
            output=answer,
            at=step.at,
            left=step.left,
            ok=ok,
            chance=chance,
        )
        before = step.shown


def fitness(steps: int, seed: str, hidden: float) -> Iterator[tuple[bool, float]]:
    """Yield whether the small tier passes each step, and how probable the router takes it to be.

    The probabilities are calibrated but for the `hidden` failures, of which nothing tells.
    """
    rng = random.Random(seed)
    fit = rng.random() < FIT
    for step in range(steps):
        if step and rng.random() >= KEEP:
            fit = rng.random() < FIT
        seen = rng.gauss(INSIGHT / 2 if fit else -INSIGHT / 2, 1)
        odds = FIT / (1 - FIT) * math.exp(INSIGHT * seen)
        failed = rng.random() < hidden
        yield fit and not failed, odds / (1 + odds)


def trace(seed: int, hidden: float) -> list[Asked]:
    """Return one long session: a stable prefix, and a tool's result at every step."""
    entries = [entry(1, "user", RESULT)]
    for _ in range(1, STEPS):
        entries.append(entry(len(entries) + 1, "assistant", OUTPUT))
        entries.append(entry(len(entries) + 1, "tool", RESULT))
    steps = [Timed(START + i * STEP_S, 2 * i + 1, STEPS - i) for i in range(STEPS)]
    layers = (("core", PREFIX),)
    truth = fitness(STEPS, f"{seed}", hidden)
    return list(session(f"trace {seed}", layers, entries, steps, truth, frozen="trace"))


def entry(seq: int, kind: str, tokens: int) -> Entry:
    """Return an entry of that many tokens."""
    block = {"type": "text", "text": f"{kind} {seq}"}
    return Entry(seq, 0, seq, kind, canonical.dumps({"blocks": [block]}), tokens)  # type: ignore[arg-type]  # a kind


PAST = [chance for _, chance in fitness(STEPS, "an earlier session", 0.0)]
"""What the router's probabilities were like in an earlier session: how sure it can be."""


class Desk:
    """Bills calls as the emulator does: the vendors' caches, each tier's marks, list prices."""

    def __init__(self, pair: Pair, *, anchors: bool = True) -> None:
        self.pair, self.anchors = pair, anchors
        self._caches = {m: PrefixCache(semantics(m), clock=lambda: START) for m in pair}
        self._seen: dict[tuple[str, str], int] = {}
        self._sessions: dict[str, tuple[list[Block], list[Point]]] = {}

    def usage(self, model: str, asked: Asked, *, begin: bool = False) -> Usage:
        """Return what a call is billed; with `begin` it is made, and its prefix cached."""
        layers = len(asked.layers)
        whole, points = self._session(asked)
        blocks = whole[: layers + asked.shown]
        shown = asked.entries[: asked.shown]
        anchor = self._seen.get((model, asked.session)) if self.anchors else shown[-1].seq
        marks = place_marks(asked.layers, shown, semantics(model), anchor=anchor)
        for i, (name, _) in enumerate(asked.layers):
            blocks[i] = blocks[i]._replace(mark=marks.segments.get(name))
        for seq, ttl in marks.entries.items():
            i = layers + seq - asked.entries[0].seq
            blocks[i] = blocks[i]._replace(mark=ttl)
        cache = self._caches[model]
        found = cache.look_up(blocks, at=asked.at, points=points[: len(blocks)])
        if begin:
            cache.begin(found)
            self._seen[model, asked.session] = shown[-1].seq
        return replace(found.usage, output=asked.output)

    def call(self, model: str, asked: Asked) -> float:
        """Make a call and return its dollars."""
        usage = self.usage(model, asked, begin=True)
        return (PRICES.cost(model, usage, at=asked.at) or 0) / 1e6

    def _session(self, asked: Asked) -> tuple[list[Block], list[Point]]:
        """Return a whole session's blocks and where its prefixes end; made once."""
        if asked.session not in self._sessions:
            blocks, place = [], 0
            for name, tokens in asked.layers:
                place += 1
                blocks.append(Block(digest(name, asked.frozen), tokens, None, place))
            for one in asked.entries:
                place += positions(one)
                key = digest(asked.session, str(one.seq))
                blocks.append(Block(key, one.tokens, None, place, True))
            self._sessions[asked.session] = blocks, prefixes(blocks)
        return self._sessions[asked.session]


class Way(Protocol):
    """Decides which tier begins a step, and may learn how it went."""

    def __call__(self, asked: Asked, facts: Sequence[TierFacts]) -> str: ...


class Always:
    """One tier for every step."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, asked: Asked, facts: Sequence[TierFacts]) -> str:
        return self.model


def by_step(asked: Asked, facts: Sequence[TierFacts]) -> str:
    """Take the likelier tier anew at each step, as a router does that knows no caches."""
    return facts[0].name if asked.chance >= 0.5 else facts[1].name


class Replayed:
    """A sequence of tiers that is given."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = iter(models)

    def __call__(self, asked: Asked, facts: Sequence[TierFacts]) -> str:
        return next(self._models)


class Routed:
    """The library's choice: expected costs, a streak and a guard for each session."""

    def __init__(self, pair: Pair, *, sharers: float = 1.0, limit: float = 0.02) -> None:
        self._pair, self._sharers, self._limit = pair, sharers, limit
        self._sessions: dict[str, tuple[Streak, Guard]] = {}
        self._past: deque[float] = deque(PAST, maxlen=len(PAST))

    def __call__(self, asked: Asked, facts: Sequence[TierFacts]) -> str:
        streak, guard = self._of(asked)
        small = self._pair.small
        chances = {small: streak.chance(asked.chance)}
        self._past.append(chances[small])
        outlook = self._outlook(asked, streak)
        if not guard.paid:
            asks = asked.length, asked.new, facts, outlook
            saved = sum(one.alone - one.paid for _, one in self._sessions.values())
            guard.stake_usd = stake_usd(*asks, limit=guard.limit, saved=saved)
        return choose(asked.length, facts, chances, outlook, guard, new_tokens=asked.new).tier

    def told(
        self, asked: Asked, facts: Sequence[TierFacts], model: str, passed: bool, paid: float
    ) -> None:
        """Note how a step went: whether the tier that began it passed, and what all of it cost."""
        streak, guard = self._of(asked)
        if model == self._pair.small:
            streak.saw(passed=passed)
        exact = replace(self._outlook(asked, streak), output_tokens=float(asked.output))
        alone = alone_usd(asked.length, asked.new, facts, exact, had=guard.had)
        used = model != self._pair.small or not passed
        guard.record(paid, alone, had=asked.length if used else facts[-1].warm)

    def _outlook(self, asked: Asked, streak: Streak) -> Outlook:
        return Outlook(
            steps=asked.left,
            new_tokens=asked.result,
            output_tokens=asked.told,
            later=[{self._pair.small: chance} for chance in streak.later],
            shared_tokens=sum(tokens for _, tokens in asked.layers),
            sharers=self._sharers,
        )

    def _of(self, asked: Asked) -> tuple[Streak, Guard]:
        if asked.session not in self._sessions:
            streak = Streak(keep=KEEP, base=FIT, past=list(self._past))
            self._sessions[asked.session] = streak, Guard(limit=self._limit)
        return self._sessions[asked.session]


def play(calls: Iterable[Asked], pair: Pair, way: Way, *, anchors: bool = True) -> float:
    """Return the dollars of sessions whose steps are begun as `way` decides."""
    desk, total = Desk(pair, anchors=anchors), 0.0
    for asked in calls:
        facts = [_facts(desk, model, rank, asked) for rank, model in enumerate(pair)]
        model = way(asked, facts)
        passed = model == pair.large or asked.ok
        paid = desk.call(model, asked)
        if not passed:
            paid += desk.call(pair.large, asked)
        if isinstance(way, Routed):
            way.told(asked, facts, model, passed, paid)
        total += paid
    return total


def _facts(desk: Desk, model: str, rank: int, asked: Asked) -> TierFacts:
    price = PRICES.price(model, at=asked.at, input_tokens=asked.length)
    if price is None or price.read is None or price.write is None:
        raise LookupError(f"{model!r} has no price")
    shown = TierPrices(*map(float, (price.input, price.output, price.read, price.write)))
    warm = desk.usage(model, asked).read
    return TierFacts(model, model, rank, prices=shown, warm=warm)
