"""The vendors' cache billing as a pure simulator: what a request reads, writes and pays fresh.

One `PrefixCache` stands for one API key's cache of one model. A request is looked up when it
starts, which changes nothing; what it wrote can be read only once its response has begun. So two
equal requests in parallel both pay for the write, as they do at the vendors.

Rules, where the vendors' pages leave room (`semantics.py` has their addresses):

- Tokens up to the longest hit are read. Tokens between it and the last mark are written, at each
  mark's own time to live; the rest is fresh.
- An entry lives from the start of the request that wrote or last read it. A mark inside the part
  that was read makes an entry too, at no charge, but never one that outlives what was read.
- Where caching is automatic, at least one token of a prompt is always computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from agentmesh.economy.semantics import CacheSemantics, ModelName, semantics
from agentmesh.economy.tokens import CHARS_PER_TOKEN, count
from agentmesh.economy.usage import Usage
from agentmesh.prompt import Ttl

Clock = Callable[[], float]
"""Seconds since 1970, or since anything else that does not move."""

_PRUNE_ABOVE = 4096
_KEY = itemgetter(0)


class Block(NamedTuple):
    """One block of a prompt, as far as caching goes.

    `sha` stands for its bytes and everything else that the vendor's cache key sees. `mark` is the
    breakpoint at its end. Blocks that the vendor counts as one step of its lookback share a
    `position`. `closes` says that it ends a message where a vendor may set a breakpoint itself.
    """

    sha: bytes
    tokens: int
    mark: Ttl | None = None
    position: int = 0
    closes: bool = False


class _Entry(NamedTuple):
    expires: float
    ttl_s: float


class Written(NamedTuple):
    """Prefixes that a request leaves in the cache: until when, and for how long at a time."""

    keys: Sequence[bytes]
    expires: float
    ttl_s: float


class Lookup(NamedTuple):
    """What a request pays for its input, and the entries that exist once its response begins."""

    usage: Usage
    entries: Sequence[Written]


class Point(NamedTuple):
    """A place where a prefix ends: its hash, its length and its block's index."""

    key: bytes
    tokens: int
    block: int


def digest(kind: str, text: str) -> bytes:
    """Return the hash of a block's kind and text, for `Block.sha`."""
    whole = f"{len(kind)} {kind}{text}".encode("utf-8", "surrogatepass")
    return blake2b(whole, digest_size=16).digest()


def pieces(kind: str, text: str, *, granularity: int, position: int) -> list[Block]:
    """Return `text` as one block, or cut to steps of `granularity` tokens where that is above 1.

    Vendors that match a prompt in steps of tokens can read half a block; cutting it lets this
    simulator do the same.
    """
    step = granularity * CHARS_PER_TOKEN
    if granularity == 1 or len(text) <= step:
        return [Block(digest(kind, text), count(text), None, position)]
    cuts = (text[start : start + step] for start in range(0, len(text), step))
    return [Block(digest(kind, cut), count(cut), None, position) for cut in cuts]


class PrefixCache:
    """One API key's prompt cache of one model.

    >>> cache = PrefixCache(semantics("anthropic:claude-opus-5-5"), clock=lambda: 0.0)
    >>> prompt = [Block(digest("system", "..."), 600, mark="short"), Block(digest("user", "Hi"), 1)]
    >>> first = cache.look_up(prompt)
    >>> cache.begin(first)
    >>> first.usage.write, cache.look_up(prompt).usage.read
    (600, 600)
    """

    def __init__(self, rules: CacheSemantics, clock: Clock = time.time) -> None:
        self.semantics = rules
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}
        self._lives: dict[Ttl, float] = {
            "short": rules.ttl_s,
            "long": rules.ttl_s if rules.long_ttl_s is None else rules.long_ttl_s,
        }
        self._latest = float("-inf")
        self._prune_above = _PRUNE_ABOVE

    def __len__(self) -> int:
        return len(self._entries)

    def look_up(
        self,
        blocks: Sequence[Block],
        *,
        implicit: Ttl | None = "short",
        at: float | None = None,
        points: Sequence[Point] | None = None,
    ) -> Lookup:
        """Return what the request pays if it starts now, or `at`; the cache does not change.

        Args:
            blocks: the whole prompt in order; positions never fall.
            implicit: how long the vendor's own breakpoint lasts, where it sets one; None for a
                request that turned it off.
            at: when the request starts, by the cache's clock.
            points: the prefixes of `blocks`, where the caller has them from `prefixes`.
        """
        now = self._clock() if at is None else at
        family = self.semantics.family
        if family == "none":
            return Lookup(Usage(fresh=sum(block.tokens for block in blocks)), ())
        points = prefixes(blocks) if points is None else points
        if family in ("openai-auto", "prefix"):
            return self._automatic(points, implicit, now)
        marks = self._marks(blocks, points, implicit)
        if family == "anthropic":
            candidates: Iterable[Point] = self._walk_back(blocks, points, marks)
        else:
            candidates = self._breakpoints(blocks, points)
        return self._marked(points, marks, candidates, now)

    def begin(self, lookup: Lookup) -> None:
        """Make readable what `lookup` wrote, and prolong what it read: its response has begun."""
        for keys, expires, ttl_s in lookup.entries:
            entry = _Entry(expires, ttl_s)
            if expires >= self._latest:  # nothing that is there outlives it
                self._latest = expires
                self._entries.update(dict.fromkeys(keys, entry))
                continue
            for key in keys:
                old = self._entries.get(key)
                if old is not None and old.expires > expires:
                    self._entries[key] = _Entry(old.expires, max(old.ttl_s, ttl_s))
                else:
                    self._entries[key] = entry
        if len(self._entries) > self._prune_above:
            self._prune()

    def _prune(self) -> None:
        now = self._clock()
        live = {key: entry for key, entry in self._entries.items() if entry.expires > now}
        self._entries = live
        self._prune_above = max(_PRUNE_ABOVE, 2 * len(live))

    def _live(self, key: bytes, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > now else None

    def _marks(
        self, blocks: Sequence[Block], points: Sequence[Point], implicit: Ttl | None
    ) -> list[tuple[Point, Ttl]]:
        """Return the breakpoints that this request may write, in order."""
        minimum = self.semantics.minimum
        marks = [(points[i], block.mark) for i, block in enumerate(blocks) if block.mark]
        if self.semantics.family == "openai-explicit":
            last = next((i for i in reversed(range(len(blocks))) if blocks[i].closes), None)
            if implicit is not None and last is not None:
                own = [mark for mark in marks if mark[0].block != last]
                keep = self.semantics.max_marks - 1
                ttl = blocks[last].mark or implicit
                marks = sorted([*own[-keep:], (points[last], ttl)], key=lambda m: m[0].block)
            marks = marks[-self.semantics.max_marks :]
        return [mark for mark in marks if mark[0].tokens >= minimum]

    def _walk_back(
        self,
        blocks: Sequence[Block],
        points: Sequence[Point],
        marks: Sequence[tuple[Point, Ttl]],
    ) -> Iterable[Point]:
        """Yield where an Anthropic request looks for entries: back from each mark, latest first."""
        lookback = self.semantics.lookback or len(blocks)
        below = len(blocks)
        for mark, _ in reversed(marks):
            oldest = blocks[mark.block].position - lookback
            for index in range(min(mark.block, below - 1), -1, -1):
                if blocks[index].position <= oldest:
                    break
                below = index
                yield points[index]

    def _breakpoints(self, blocks: Sequence[Block], points: Sequence[Point]) -> Iterable[Point]:
        """Yield where an OpenAI request looks for entries: at its latest breakpoints."""
        left = self.semantics.lookback or len(blocks)
        for index in range(len(blocks) - 1, -1, -1):
            if blocks[index].mark or blocks[index].closes:
                yield points[index]
                left -= 1
                if not left:
                    return

    def _marked(
        self,
        points: Sequence[Point],
        marks: Sequence[tuple[Point, Ttl]],
        candidates: Iterable[Point],
        now: float,
    ) -> Lookup:
        minimum = self.semantics.minimum
        total = points[-1].tokens if points else 0
        hit: Point | None = None
        life: _Entry | None = None
        if marks or self.semantics.exact_match:
            for point in candidates:
                life = self._live(point.key, now) if point.tokens >= minimum else None
                if life is not None:
                    hit = point
                    break
        read = hit.tokens if hit else 0
        keys: dict[float, list[bytes]] = {}
        if hit is not None and life is not None:
            keys[life.ttl_s] = [hit.key]
        paid = {"short": 0, "long": 0}
        end = read
        for point, ttl in marks:
            ttl_s = self._lives[ttl]
            if point.tokens <= read and life is not None:
                old = self._entries.get(point.key)
                known = old is not None and old.expires > now
                ttl_s = old.ttl_s if old is not None and known else min(ttl_s, life.ttl_s)
            else:
                paid[ttl] += point.tokens - end
                end = point.tokens
            keys.setdefault(ttl_s, []).append(point.key)
        usage = Usage(total - end, read, paid["short"], paid["long"])
        return Lookup(usage, [Written(found, now + ttl_s, ttl_s) for ttl_s, found in keys.items()])

    def _automatic(self, points: Sequence[Point], ttl: Ttl | None, now: float) -> Lookup:
        step = self.semantics.granularity
        total = points[-1].tokens if points else 0
        matched = 0
        entries = self._entries
        for point in reversed(points):  # where a prefix lives, every shorter one does
            entry = entries.get(point.key)
            if entry is not None and entry.expires > now:
                matched = point.tokens
                break
        read = max(0, min(matched, total - 1)) // step * step
        if read < self.semantics.minimum:
            read = 0
        written: tuple[Written, ...] = ()
        if total >= self.semantics.minimum and ttl is not None:
            ttl_s = self._lives[ttl]
            written = (Written(list(map(_KEY, points)), now + ttl_s, ttl_s),)
        return Lookup(Usage(total - read, read), written)


def prefixes(blocks: Iterable[Block], after: Point | None = None) -> list[Point]:
    """Return where each prefix of a prompt ends; `after` is the end of the blocks before these."""
    points = []
    key, tokens, start = (after.key, after.tokens, after.block + 1) if after else (b"", 0, 0)
    for index, block in enumerate(blocks, start):
        key = blake2b(key + block.sha, digest_size=16).digest()
        tokens += block.tokens
        points.append(Point(key, tokens, index))
    return points


class CacheSpace:
    """All prompt caches of one vendor or emulator: one per API key and model."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._caches: dict[tuple[str, ModelName], PrefixCache] = {}

    def cache(self, key: str, model: ModelName) -> PrefixCache:
        """Return the cache that requests with API key `key` to `model` share."""
        found = self._caches.get((key, model))
        if found is None:
            found = self._caches[key, model] = PrefixCache(semantics(model), self._clock)
        return found

    def clear(self) -> None:
        """Forget everything that was cached."""
        self._caches.clear()
