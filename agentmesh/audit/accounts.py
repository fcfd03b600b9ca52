"""Where the money went: a ledger's calls by every key, the waste by cause, and what was saved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.audit.prompts import Parting, Sent, cache_blocks, facts, layers, parting, sent
from agentmesh.diagnostics import KEY
from agentmesh.economy.billing import PrefixCache
from agentmesh.economy.misses import Miss, agrees, miss
from agentmesh.economy.planner import place_marks
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.semantics import ModelName, semantics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import outline
from agentmesh.errors import ConfigError, CorruptError

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.prompt import Prompt, Ttl

KEYS = ("agent", "node", "purpose", "tier", "model", "user", "session", "day")
"""By what a ledger can be split."""

NODES = {
    "digest": "commit",
    "learn": "commit",
    "keep": "(between turns)",
    "quarantine": "tools",
    "route": "route",
}
"""The graph's node that makes calls of a purpose, where it is not `act`."""


@dataclass
class Sum:
    """Calls added up; `cost` is of those whose price is known, `unpriced` counts the others."""

    calls: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: int = 0
    unpriced: int = 0
    seconds: float = 0.0

    def add(self, call: Call) -> None:
        """Count a call."""
        self.calls += 1
        self.failed += call.outcome != "ok"
        self.usage += call.usage
        self.seconds += call.latency_s
        if call.cost is None:
            self.unpriced += 1
        else:
            self.cost += call.cost

    @property
    def read_share(self) -> float:
        """Share of the input that was read from the cache."""
        return self.usage.read / self.usage.input if self.usage.input else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the sum as JSON has it."""
        return {**asdict(self), "read_share": round(self.read_share, 4)}


class Waste(NamedTuple):
    """What one cause of misses cost beyond reading the same tokens."""

    calls: int
    tokens: int
    cost: int


class LastMiss(NamedTuple):
    """A miss with the exact place where the prompts parted, where they did."""

    session: str
    call: int
    model: ModelName
    at: float
    cause: str
    tokens: int
    place: str
    parting: Parting | None
    vendor: str = ""


class VendorWord(NamedTuple):
    """How many misses the vendor named the cause of too, and of how many it said the same."""

    told: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class Savings:
    """What the same work would have cost on one flagship; None where its price is unknown."""

    flagship: ModelName
    steps: int
    uncached: int | None
    cached: int | None


@dataclass(frozen=True)
class Accounts:
    """A ledger's report; `unread` are sessions whose prompts the database no longer tells."""

    total: Sum
    by: Mapping[str, Mapping[str, Sum]]
    waste: Mapping[str, Waste]
    missed: int
    unexplained: int
    misses: Sequence[LastMiss]
    savings: Savings | None
    unread: Sequence[str] = ()
    vendor: VendorWord = field(default_factory=VendorWord)

    @property
    def explained(self) -> float:
        """Share of the missed tokens whose cause is known."""
        return 1.0 if not self.missed else 1 - self.unexplained / self.missed

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it; money in micro-dollars."""
        return {
            "total": self.total.as_dict(),
            "by": {
                key: {name: row.as_dict() for name, row in rows.items()}
                for key, rows in self.by.items()
            },
            "waste": {cause: row._asdict() for cause, row in self.waste.items()},
            "missed_tokens": self.missed,
            "explained_share": round(self.explained, 4),
            "misses": [
                {**row._asdict(), "parting": asdict(row.parting) if row.parting else None}
                for row in self.misses
            ],
            "vendor_word": self.vendor._asdict(),
            "savings": asdict(self.savings) if self.savings else None,
            "unread_sessions": list(self.unread),
        }


class Found(NamedTuple):
    """A call that missed, and the call whose prefix it should have read."""

    made: Sent
    own: Sent | None
    miss: Miss


def add_up(
    memory: Memory,
    *,
    prices: PriceBook | None = None,
    flagship: ModelName | None = None,
    last: int = 10,
    calls: Sequence[Call] | None = None,
) -> Accounts:
    """Return where a ledger's money went.

    Args:
        memory: whose ledger.
        prices: for the waste and the savings; the bills themselves are the ledger's.
        flagship: the model to compare with; the dearest one of the ledger if None.
        last: how many misses are shown with their place.
        calls: the calls to report; all of the ledger's if None.
    """
    book = prices or PriceBook()
    chosen = list(memory.ledger.calls() if calls is None else calls)
    total = Sum()
    by: dict[str, dict[str, Sum]] = {key: defaultdict(Sum) for key in KEYS}
    for call in chosen:
        total.add(call)
        for key in KEYS:
            by[key][_value(call, key)].add(call)
    prompts, unread = _prompts(memory, chosen)
    found = [row for session in prompts for row in explain(session)]
    waste = _waste(found, book)
    newest = sorted(found, key=lambda row: row.made.call.id)[-last:] if last else []
    return Accounts(
        total=total,
        by={key: _dearest_first(rows, key) for key, rows in by.items()},
        waste=waste,
        missed=sum(row.miss.tokens for row in found),
        unexplained=sum(row.miss.tokens for row in found if row.miss.cause == "unknown"),
        misses=[_last_miss(memory, row) for row in reversed(newest)],
        savings=_savings(prompts, book, flagship),
        unread=unread,
        vendor=_vendor_word(found),
    )


def _value(call: Call, key: str) -> str:
    if key == "day":
        return datetime.fromtimestamp(call.started_at, UTC).date().isoformat()
    if key == "node":
        return NODES.get(call.purpose, "act")
    return str(getattr(call, key))


def _dearest_first(rows: Mapping[str, Sum], key: str) -> dict[str, Sum]:
    if key == "day":
        return dict(sorted(rows.items()))
    return dict(sorted(rows.items(), key=lambda row: (-row[1].cost, row[0])))


def _prompts(memory: Memory, calls: Sequence[Call]) -> tuple[list[list[Sent]], list[str]]:
    """Return each session's billed calls with their prompts, and the sessions that have none."""
    billed = sorted((c for c in calls if c.usage.input), key=lambda c: (c.session, c.id))
    prompts, unread = [], []
    for name, rows in groupby(billed, key=lambda call: call.session):
        try:
            prompts.append(sent(memory, name, list(rows)))
        except CorruptError:
            unread.append(name)
    return prompts, unread


def explain(session: Sequence[Sent]) -> list[Found]:
    """Return a session's calls that missed, each with its cause.

    Calls with a prompt of their own have nothing to read of the others', nor they of them.
    """
    chains: dict[str, list[Sent]] = defaultdict(list)
    for made in session:
        chains[made.call.purpose if '"own"' in made.call.marks else ""].append(made)
    return [row for chain in chains.values() for row in _chain(chain)]


def _chain(session: Sequence[Sent]) -> list[Found]:
    found = []
    last: Sent | None = None
    before: Sent | None = None
    own: dict[ModelName, Sent] = {}
    older: dict[ModelName, Sent | None] = {}
    for made in session:
        model = made.call.model
        mine = own.get(model)
        reason = miss(
            facts(last, before, own.get(last.call.model)) if last else None,
            facts(mine, None, older.get(model)) if mine else None,
            facts(made, last, mine),
        )
        if reason is not None:
            found.append(Found(made, mine, reason))
        older[model], own[model] = mine, made
        before, last = last, made
    return found


def _vendor_word(found: Iterable[Found]) -> VendorWord:
    words = [agrees(row.miss.cause, str(row.made.call.decision.get(KEY, ""))) for row in found]
    return VendorWord(sum(word is not None for word in words), words.count(True))


def _waste(found: Iterable[Found], book: PriceBook) -> dict[str, Waste]:
    rows: dict[str, Waste] = {}
    for row in found:
        old = rows.get(row.miss.cause, Waste(0, 0, 0))
        cost = old.cost + _extra(row.made.call, row.miss.tokens, book)
        rows[row.miss.cause] = Waste(old.calls + 1, old.tokens + row.miss.tokens, cost)
    return dict(sorted(rows.items(), key=lambda item: -item[1].cost))


def _extra(call: Call, tokens: int, book: PriceBook) -> int:
    """Return what missed tokens cost above reading them; 0 where the price is unknown."""
    price = book.price(call.model, at=call.started_at, input_tokens=call.usage.input)
    if price is None:
        return 0
    long = call.usage.write_long > call.usage.write
    written = Usage(write_long=tokens) if long else Usage(write=tokens)
    paid = written if call.usage.write + call.usage.write_long else Usage(fresh=tokens)
    return price.cost(paid) - price.cost(Usage(read=tokens))


def _last_miss(memory: Memory, row: Found) -> LastMiss:
    call = row.made.call
    place = row.miss.place
    where: Parting | None = None
    if row.own is not None:
        try:
            where = parting(_rebuilt(memory, row.own), _rebuilt(memory, row.made))
        except CorruptError as error:
            place = f"the prompt cannot be rebuilt: {error}"
    return LastMiss(
        call.session,
        call.id,
        call.model,
        call.started_at,
        row.miss.cause,
        row.miss.tokens,
        place,
        where,
        str(call.decision.get(KEY, "")),
    )


def _rebuilt(memory: Memory, made: Sent) -> Prompt:
    """Return the prompt as it was sent; one whose hash was recorded is checked against it."""
    if not made.call.prompt_sha:
        return made.prompt
    return memory.rebuild(made.call.session, made.call)


def _savings(
    sessions: Sequence[Sequence[Sent]], book: PriceBook, flagship: ModelName | None
) -> Savings | None:
    """Return what one flagship would have cost: one call for each step, uncached and cached."""
    steps = [made for session in sessions for made in _one_per_step(session)]
    if not steps:
        return None
    chosen = flagship or _dearest((made.call.model for made in steps), book)
    if flagship is not None and book.price(flagship) is None:
        raise ConfigError(
            f"the price of {flagship!r} is unknown", hint="give it in --prices, or name another"
        )
    if chosen is None:
        return None
    steps.sort(key=lambda made: (made.call.started_at, made.call.id))
    rules = semantics(chosen)
    # our requests tell OpenAI that the marks alone decide what is written
    implicit: Ttl | None = None if rules.family == "openai-explicit" else "short"
    cache = PrefixCache(rules, clock=lambda: 0.0)
    uncached = cached = 0
    anchors: dict[str, int] = {}
    for call, prompt in steps:
        sizes = [(layer.name, layer.tokens) for layer in layers(prompt.tools, prompt.segments)]
        marks = place_marks(sizes, prompt.entries, rules, anchor=anchors.get(call.session))
        seen = outline(replace(prompt, marks=marks), call.session)
        lookup = cache.look_up(cache_blocks(seen), implicit=implicit, at=call.started_at)
        cache.begin(lookup)
        anchors[call.session] = call.head
        output = Usage(output=call.usage.output)
        cached += book.cost(chosen, lookup.usage + output, call.started_at) or 0
        uncached += book.cost(chosen, Usage(fresh=seen.tokens) + output, call.started_at) or 0
    return Savings(chosen, len(steps), uncached, cached)


def _one_per_step(session: Sequence[Sent]) -> list[Sent]:
    """Return the last call of each step: a flagship would not have needed the drafts before it."""
    kept = {(m.call.turn, m.call.step, m.call.purpose): m for m in session}
    return list(kept.values())


def _dearest(models: Iterable[ModelName], book: PriceBook) -> ModelName | None:
    priced = {model: price for model in set(models) if (price := book.price(model)) is not None}
    return max(sorted(priced), key=lambda model: priced[model].input, default=None)
