"""Where to put cache breakpoints and for how long: few slots, spent where money is saved.

The order of worth:

1. the end of the log, so that the next step reads what this one wrote;
2. the layers that all users share, so that one user's call warms the next user's;
3. all that is frozen, so that a compaction or another branch still reads it;
4. the entry that this model was shown last (the return anchor), once so much was added since that
   the vendor's lookback no longer reaches it from the end;
5. with slots left over: the organisation apart from the core, the Profile apart from the Task, and
   entries on the way, one lookback apart, for a caller that knows no anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from agentmesh.economy.semantics import CacheSemantics
from agentmesh.prompt import Entry, Marks, Ttl
from agentmesh.toolview import KIND

if TYPE_CHECKING:
    from agentmesh.economy.prices import Price

SHARED = frozenset({"tools", "core", "org"})
"""Layers that do not depend on the user."""

MARKED_FAMILIES = frozenset({"anthropic", "openai-explicit"})
"""Whose models are told what to cache; all others find out by themselves."""

NEAR_MINIMUM = 0.5
"""A prefix of at least this share of the minimum is worth a word: a little more would be cached."""


class Place(NamedTuple):
    """Where a breakpoint stands: a segment's name or an entry's seq, and the tokens up to there."""

    at: str | int
    tokens: int


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A prefix that is not cached because it is a little too short."""

    layer: str
    tokens: int
    minimum: int

    @property
    def missing(self) -> int:
        """Tokens that would make it cacheable."""
        return self.minimum - self.tokens

    def cost(self, price: Price) -> Decimal:
        """Return what it costs, in micro-dollars for each call that could have read it."""
        read = price.input if price.read is None else price.read
        return (price.input - read) * self.tokens

    def __str__(self) -> str:
        return (
            f"the prefix up to {self.layer!r} has {self.tokens} tokens, {self.missing} fewer than "
            "this model caches: every call pays for it in full"
        )


@dataclass(frozen=True, slots=True)
class Gaps:
    """Seconds that passed between uses of a prefix, as observed: the shared layers', a session's.

    The pause that ends with the call at hand is one of them.
    """

    shared: Sequence[float] = ()
    session: Sequence[float] = ()

    @classmethod
    def between(cls, sessions: Iterable[Sequence[float]]) -> Gaps:
        """Return the gaps between calls, given the times of each session's calls of one model.

        >>> Gaps.between([[0.0, 10.0], [400.0, 425.0]])
        Gaps(shared=(10.0, 390.0, 25.0), session=(10.0, 25.0))
        """
        ordered = [sorted(times) for times in sessions]
        every = sorted(time for times in ordered for time in times)
        own = tuple(b - a for times in ordered for a, b in pairwise(times))
        return cls(tuple(b - a for a, b in pairwise(every)), own)


@dataclass(frozen=True, slots=True)
class Plan:
    """A prompt's marks, the places they stand at in order, and what is too short to be cached."""

    marks: Marks = field(default_factory=Marks)
    places: tuple[Place, ...] = ()
    shortfall: Shortfall | None = None


def place_marks(
    layers: Sequence[tuple[str, int]],
    entries: Sequence[Entry],
    semantics: CacheSemantics,
    *,
    anchor: int | None = None,
    ttl: Ttl = "short",
) -> Marks:
    """Return the marks of a prompt for a model with these cache semantics; see `plan`."""
    return plan(layers, entries, semantics, anchor=anchor, ttl=ttl).marks


def plan(
    layers: Sequence[tuple[str, int]],
    entries: Sequence[Entry],
    semantics: CacheSemantics,
    *,
    anchor: int | None = None,
    ttl: Ttl = "short",
    gaps: Gaps | None = None,
) -> Plan:
    """Return where a prompt is marked, for how long, and what is too short to be marked.

    Args:
        layers: name and tokens of the tools and each segment, in order.
        entries: the visible log.
        semantics: the model's cache rules; models that cache by themselves get no marks.
        anchor: seq of the last entry that this model was shown, if it may still be cached.
        ttl: how long what is written shall live, where no gaps are known.
        gaps: how far apart the uses were so far; then every mark gets the cheaper time to live.
    """
    frozen = _ends(layers)
    total = (frozen[-1].tokens if frozen else 0) + sum(entry.tokens for entry in entries)
    shortfall = _shortfall(frozen, total, semantics)
    if semantics.family not in MARKED_FAMILIES or total < semantics.minimum:
        return Plan(shortfall=shortfall)
    segments = [place for place in frozen if _markable_layer(place, semantics)]
    base = frozen[-1].tokens if frozen else 0
    places = _choose(segments, _log_places(base, entries, semantics, anchor), semantics)
    ttls, why = [ttl] * len(places), ""
    if semantics.long_ttl_s is None:
        ttls = ["short"] * len(places)
    elif gaps is not None:
        shown = sum(entry.kind == "assistant" for entry in entries) + 1
        ttls, why = _ttls(places, gaps, semantics, shown)
    marks = Marks(
        {p.at: t for p, t in zip(places, ttls, strict=True) if isinstance(p.at, str)},
        {p.at: t for p, t in zip(places, ttls, strict=True) if isinstance(p.at, int)},
        why,
    )
    return Plan(marks, tuple(places), shortfall)


def _ends(layers: Sequence[tuple[str, int]]) -> list[Place]:
    """Return where each layer that holds anything ends."""
    ends, total = [], 0
    for name, tokens in layers:
        total += tokens
        if tokens:
            ends.append(Place(name, total))
    return ends


def _markable_layer(place: Place, semantics: CacheSemantics) -> bool:
    """Say whether a layer's end may bear a mark that pays; OpenAI's tools cannot bear one."""
    if place.at == "tools" and semantics.family == "openai-explicit":
        return False
    return place.tokens >= semantics.minimum


class _Log(NamedTuple):
    """The entries worth a mark: the end, the anchor, and others on the way, most useful first."""

    tail: Place | None = None
    anchor: Place | None = None
    between: tuple[Place, ...] = ()


def _log_places(
    base: int, entries: Sequence[Entry], semantics: CacheSemantics, anchor: int | None
) -> _Log:
    """Return the log's places, walking back from its end no further than needed."""
    tokens = base + sum(entry.tokens for entry in entries)
    tail: Place | None = None
    between: list[Place] = []
    lookback = semantics.lookback or 0
    behind = since = 0  # positions after the entry: down to the end, down to the last mark
    for entry in reversed(entries):
        if tokens < semantics.minimum:
            break
        if tail is None:
            if markable(entry, semantics):
                tail = Place(entry.seq, tokens)
        elif anchor is not None:
            if entry.seq <= anchor and markable(entry, semantics):
                seen = not lookback or behind < lookback
                return _Log(tail, None if seen else Place(entry.seq, tokens))
        elif not lookback or len(between) == semantics.max_marks:
            break
        else:
            size = positions(entry)
            if since + size > lookback and markable(entry, semantics):
                between.append(Place(entry.seq, tokens))
                since = 0
        size = positions(entry)
        behind, since = behind + size, since + size
        tokens -= entry.tokens
    return _Log(tail, None, tuple(between))


def _choose(segments: Sequence[Place], log: _Log, semantics: CacheSemantics) -> list[Place]:
    """Return the places that get one of the slots, in the prompt's order."""
    shared = [place for place in segments if place.at in SHARED]
    own = [place for place in segments if place.at not in SHARED]
    wanted = [log.tail, *shared[-1:], *own[-1:], log.anchor]
    wanted += [place for place in shared[:-1] if place.at == "core"]
    wanted += [place for place in own[:-1] if place.at == "profile"]
    wanted += log.between
    chosen = [place for place in wanted if place is not None][: semantics.max_marks]
    return sorted(chosen, key=lambda place: (isinstance(place.at, int), place.tokens, place.at))


def _ttls(
    places: Sequence[Place], gaps: Gaps, semantics: CacheSemantics, shown: int
) -> tuple[list[Ttl], str]:
    """Return the cheapest times to live, and why; a longer one must stand before a shorter one.

    All entries get the same one: a vendor's request may show two entries in another order.
    `shown` is how many calls the visible log tells of, over which its tokens were written.
    """
    longest = max(max(gaps.shared, default=0.0), max(gaps.session, default=0.0))
    if longest < semantics.ttl_s:
        return ["short"] * len(places), ""
    layers = sum(isinstance(place.at, str) for place in places)
    options = [*range(layers + 1), *([len(places)] if len(places) > layers else [])]
    sizes = [p.tokens - q for p, q in zip(places, [0, *(p.tokens for p in places)], strict=False)]

    def price(place: Place) -> tuple[Decimal, Decimal]:
        if isinstance(place.at, int):
            return log
        return shared if place.at in SHARED else own

    shared, own = _prices(semantics, gaps.shared), _prices(semantics, gaps.session)
    log = _prices(semantics, gaps.session, shown) if len(places) > layers else own
    each = [
        (size * price(place)[0], size * price(place)[1])
        for place, size in zip(places, sizes, strict=True)
    ]

    def cost(longs: int) -> Decimal:
        return sum((each[n][n < longs] for n in range(len(each))), Decimal(0))

    longs = min(options, key=cost)
    ttls: list[Ttl] = ["long" if number < longs else "short" for number in range(len(places))]
    if not longs:
        return ttls, ""
    worth = f"{cost(longs):,.0f} tokens' price per call, {cost(0):,.0f} if none did"
    upto = places[longs - 1].at if longs <= layers else "the log's end"
    return ttls, f"the long life up to {upto}: {_outlasting(gaps, semantics)}; {worth}"


def _prices(
    semantics: CacheSemantics, gaps: Sequence[float], grown: int | None = None
) -> tuple[Decimal, Decimal]:
    """Return what a token costs per use if it lives short, and if it lives long."""
    short = per_use(semantics, gaps, "short", grown=grown)
    return short, per_use(semantics, gaps, "long", grown=grown)


def _outlasting(gaps: Gaps, semantics: CacheSemantics) -> str:
    """Return how many of the pauses outlast each time to live, in words."""
    lives = semantics.ttl_s, semantics.long_ttl_s or semantics.ttl_s
    told = (
        f"of {len(seen)} pauses of {whose} {over[0]} outlast {lives[0]:.0f} s"
        f" and {over[1]} {lives[1]:.0f} s"
        for whose, seen in (("the shared layers", gaps.shared), ("the session", gaps.session))
        for over in [[sum(gap >= life for gap in seen) for life in lives]]
    )
    return ", ".join(told)


def per_use(
    semantics: CacheSemantics, gaps: Sequence[float], ttl: Ttl, *, grown: int | None = None
) -> Decimal:
    """Return what one token of a prefix costs per use, as a multiple of fresh input.

    The first use writes it. A later one within the time to live reads and prolongs it, any other
    writes it again. With no gap observed, every use is taken to be the first.

    Args:
        semantics: the model's cache rules.
        gaps: seconds before each use but the first.
        ttl: how long it is made to live.
        grown: over how many calls a log has grown evenly to what it is: each of its tokens was
            written once, and half of them, on average, wait through each pause.
    """
    long = ttl == "long" and semantics.long_ttl_s is not None
    lives = semantics.long_ttl_s if long else semantics.ttl_s
    write = semantics.long_write_multiplier if long else semantics.write_multiplier
    if not gaps:
        return write
    hits = Decimal(sum(gap < (lives or 0) for gap in gaps)) / len(gaps)
    later = hits * semantics.read_multiplier + (1 - hits) * write
    if grown is not None:
        return write / grown + later / 2
    return (write + len(gaps) * later) / (len(gaps) + 1)


def _shortfall(frozen: Sequence[Place], total: int, semantics: CacheSemantics) -> Shortfall | None:
    """Return the longest shared prefix that just misses the minimum, or else the whole prompt."""
    shared = [place for place in frozen if place.at in SHARED]
    for layer, tokens in [*shared[-1:], ("log", total)]:
        if NEAR_MINIMUM * semantics.minimum <= tokens < semantics.minimum:
            return Shortfall(str(layer), tokens, semantics.minimum)
    return None


def markable(entry: Entry, semantics: CacheSemantics) -> bool:
    """Say whether an entry can bear a mark: it shows something that its vendor lets be marked."""
    if semantics.family == "openai-explicit" and entry.kind == "assistant":
        return False
    for block in entry.blocks:
        if block["type"] in ("call", "result") or (
            block["type"] == "text" and block["text"].strip()
        ):
            return True
    return False


def positions(entry: Entry) -> int:
    """Return how many cache positions an entry takes at most; a run of calls is one."""
    blocks = entry.blocks
    if entry.kind == KIND:
        return sum(len(block["added"]) + len(block["removed"]) for block in blocks)
    if len(blocks) < 2:
        return 1
    kinds = [block["type"] for block in blocks]
    runs = sum(1 for i, kind in enumerate(kinds) if kind != "call" or kinds[i - 1 : i] != ["call"])
    return max(1, runs)
