"""What is still cached, and until when: predicted before each call, corrected by its bill.

The state is small: for each model and each prefix that was marked, how long it lives. A prefix is
named by its content, so that sessions that share a layer share its warmth. Nothing here asks a
vendor; a bill that says otherwise is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from agentmesh.canonical import sha
from agentmesh.economy.planner import positions
from agentmesh.economy.semantics import CacheSemantics, ModelName, semantics
from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError
from agentmesh.prompt import Prompt, Segment, ToolSpec, Ttl

TOLERANCE = 0.02
"""A bill may differ by this share of the prompt before it says that the cache was not as thought."""

_LEARN = 0.2
_PRUNE_ABOVE = 4096


class Point(NamedTuple):
    """A place where a prefix may end: its name, its tokens, its position, its mark."""

    key: str
    tokens: int
    position: int
    mark: Ttl | None = None
    closes: bool = True
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """A prompt as far as its cache goes: the points where a prefix may end, and all its tokens."""

    points: tuple[Point, ...]
    tokens: int


class Life(NamedTuple):
    """How long a cached prefix lives, and how long it was made to."""

    tokens: int
    until: float
    ttl_s: float
    shared: bool = False


class Warm(NamedTuple):
    """A prefix that a model's cache holds: a shared layer's or a session's."""

    model: ModelName
    key: str
    tokens: int
    until: float
    shared: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a call will be billed for its input, as far as anyone can know; `until` is when the
    prefix that it reads would have fallen cold (0 for none)."""

    usage: Usage
    until: float = 0.0


class Surprise(NamedTuple):
    """How a bill differed from its prediction: read tokens, and whether it was more than noise."""

    read: int
    expected: int
    significant: bool


def outline(prompt: Prompt, session: str) -> Outline:
    """Return a prompt's outline; `session` names whose log it shows."""
    frozen = _frozen(prompt.tools, prompt.segments)
    marks = prompt.marks
    points = [p._replace(mark=marks.segments.get(name)) for name, p in frozen]
    tokens = points[-1].tokens if points else 0
    position = points[-1].position if points else 0
    first = prompt.entries[0].seq if prompt.entries else 0
    stem = f"{points[-1].key if points else ''}:{session}:{first}"
    marked = marks.entries
    for entry in prompt.entries:
        seq = entry.seq
        tokens += entry.tokens
        position += positions(entry)
        points.append(
            Point(f"{stem}:{seq}", tokens, position, marked.get(seq), entry.kind != "assistant")
        )
    return Outline(tuple(points), tokens + count(prompt.tail))


@lru_cache(maxsize=512)
def _frozen(
    tools: tuple[ToolSpec, ...], segments: tuple[Segment, ...]
) -> tuple[tuple[str, Point], ...]:
    """Return the points of the frozen part; it is the same object for many calls."""
    rows: list[tuple[str, Point]] = []
    key, tokens, position = "", 0, 0
    if tools:
        key = sha("\n".join(f"{t.name}\n{t.description}\n{t.parameters}" for t in tools))[:32]
        tokens = sum(count(t.name + t.description + t.parameters) for t in tools)
        position = len(tools)
        rows.append(("tools", Point(key, tokens, position, None, False, True)))
    for segment in segments:
        if not segment.text.strip():
            continue
        key = sha(f"{key}\n{segment.name}\n{segment.text}")[:32]
        tokens, position = tokens + count(segment.text), position + 1
        shared = segment.name in ("core", "org")
        rows.append((segment.name, Point(key, tokens, position, None, False, shared)))
    return tuple(rows)


class Warmth:
    """What every model's cache still holds, as far as this process knows.

    >>> warmth = Warmth()
    >>> seen = Outline((Point("core", 900, 1, "short"),), 910)
    >>> warmth.predict("anthropic:claude-opus-5-5", seen, now=0.0).usage
    Usage(fresh=10, read=0, write=900, write_long=0, output=0, reasoning=0)
    >>> warmth.note("anthropic:claude-opus-5-5", seen, at=0.0)
    >>> warmth.predict("anthropic:claude-opus-5-5", seen, now=60.0).usage.read
    900
    """

    def __init__(self, lives: Mapping[tuple[ModelName, str], Life] | None = None) -> None:
        self._lives: dict[tuple[ModelName, str], Life] = dict(lives or {})
        self._scale: dict[ModelName, float] = {}

    def scale(self, model: ModelName) -> float:
        """Return how many of a model's own tokens one of ours is, as its bills have shown."""
        return self._scale.get(model, 1.0)

    def predict(self, model: ModelName, seen: Outline, now: float) -> Prediction:
        """Return what a call that starts now will be billed for its input."""
        rules = semantics(model)
        found = self._hit(model, seen, rules, now)
        read = found.tokens if found else 0
        usage = _bill(seen, rules, read)
        until = self._lives[model, found.key].until if found else 0.0
        return Prediction(_scaled(usage, self.scale(model)), until)

    def note(self, model: ModelName, seen: Outline, at: float) -> None:
        """Remember that a call which started at `at` was answered: what it wrote can be read."""
        rules = semantics(model)
        hit = self._hit(model, seen, rules, at)
        read = hit.tokens if hit else 0
        life = self._lives.get((model, hit.key)) if hit else None
        if hit and life:
            self._lives[model, hit.key] = life._replace(until=at + life.ttl_s)
        for point, ttl in _written(seen, rules):
            ttl_s = ttl
            if point.tokens <= read and life is not None:
                old = self._lives.get((model, point.key))
                ttl_s = old.ttl_s if old and old.until > at else min(ttl, life.ttl_s)
            self._lives[model, point.key] = Life(point.tokens, at + ttl_s, ttl_s, point.shared)
        if len(self._lives) > _PRUNE_ABOVE:
            self._prune(at)

    def learn(self, model: ModelName, seen: Outline, billed: Usage, at: float) -> Surprise:
        """Compare a bill with what was predicted, believe the bill, and return the difference."""
        if billed.input == 0:
            return Surprise(0, 0, False)
        predicted = self.predict(model, seen, at).usage
        if seen.tokens:
            scale = self.scale(model)
            own = billed.input / seen.tokens
            known = model in self._scale
            self._scale[model] = scale + _LEARN * (own - scale) if known else own
        short = predicted.read - billed.read
        significant = abs(short) > TOLERANCE * billed.input
        if significant and short > 0:
            kept = billed.read / self.scale(model) * (1 + TOLERANCE)
            for point in seen.points:
                if point.tokens > kept:
                    self._lives.pop((model, point.key), None)
        self.note(model, seen, at)
        return Surprise(billed.read, predicted.read, significant)

    def warm(self, now: float, model: ModelName | None = None) -> list[Warm]:
        """Return what is still cached, the longest-lived first."""
        rows = [
            Warm(name, key, life.tokens, life.until, life.shared)
            for (name, key), life in self._lives.items()
            if life.until > now and model in (None, name)
        ]
        return sorted(rows, key=lambda row: (-row.until, row.model, row.key))

    def _hit(
        self, model: ModelName, seen: Outline, rules: CacheSemantics, now: float
    ) -> Point | None:
        for point in _candidates(seen, rules):
            life = self._lives.get((model, point.key))
            if life is not None and life.until > now and point.tokens >= rules.minimum:
                return point
        return None

    def _prune(self, now: float) -> None:
        self._lives = {key: life for key, life in self._lives.items() if life.until > now}


def _candidates(seen: Outline, rules: CacheSemantics) -> Iterator[Point]:
    """Yield where a vendor looks for this prompt's prefix, longest first."""
    if rules.family == "none":
        return
    if rules.family == "anthropic":
        yield from _walk_back(seen.points, rules.lookback)
    elif rules.family == "openai-explicit":
        left = rules.lookback or len(seen.points)
        for point in reversed(seen.points):
            if point.mark or point.closes:
                yield point
                left -= 1
                if not left:
                    return
    else:
        yield from reversed(seen.points)


def _walk_back(points: Sequence[Point], lookback: int | None) -> Iterator[Point]:
    below = len(points)
    for index in range(len(points) - 1, -1, -1):
        if points[index].mark is None:
            continue
        oldest = points[index].position - (lookback or points[index].position + 1)
        for back in range(min(index, below - 1), -1, -1):
            if points[back].position <= oldest:
                break
            below = back
            yield points[back]


def _written(seen: Outline, rules: CacheSemantics) -> Iterator[tuple[Point, float]]:
    """Yield the points that a call leaves in the cache, with their time to live."""
    if rules.family == "none" or seen.tokens < rules.minimum:
        return
    automatic = rules.family in ("openai-auto", "prefix")
    for point in seen.points:
        if point.tokens < rules.minimum:
            continue
        if point.mark == "long" and rules.long_ttl_s is not None:
            yield point, rules.long_ttl_s
        elif point.mark or automatic:
            yield point, rules.ttl_s


def _bill(seen: Outline, rules: CacheSemantics, read: int) -> Usage:
    """Return what a prompt is billed if its first `read` tokens are cached."""
    if rules.family in ("none", "openai-auto", "prefix"):
        step = rules.granularity
        read = max(0, min(read, seen.tokens - 1)) // step * step
        read = read if read >= rules.minimum else 0
        return Usage(seen.tokens - read, read)
    paid: dict[Ttl, int] = {"short": 0, "long": 0}
    end = read
    for point in seen.points:
        if point.mark and point.tokens > end and point.tokens >= rules.minimum:
            ttl: Ttl = point.mark if rules.long_ttl_s is not None else "short"
            paid[ttl] += point.tokens - end
            end = point.tokens
    return Usage(seen.tokens - end, read, paid["short"], paid["long"])


def _scaled(usage: Usage, scale: float) -> Usage:
    if scale == 1.0:
        return usage
    return replace(
        usage,
        fresh=round(usage.fresh * scale),
        read=round(usage.read * scale),
        write=round(usage.write * scale),
        write_long=round(usage.write_long * scale),
    )


class Seen(NamedTuple):
    """A call of the ledger, as far as warmth goes."""

    model: ModelName
    outline: Outline
    billed: Usage
    at: float


def replay(calls: Iterable[Seen]) -> Warmth:
    """Return the warmth after a ledger's calls, oldest first: what a new process begins with."""
    warmth = Warmth()
    last = float("-inf")
    for call in calls:
        if call.at < last:
            raise InputError(
                f"a call at {call.at!r} follows one at {last!r}", hint="give calls oldest first"
            )
        last = call.at
        warmth.learn(call.model, call.outline, call.billed, call.at)
    return warmth
