"""Seeded prompts of every shape, and what must hold of the marks that are placed on them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentmesh import canonical
from agentmesh.economy.billing import PrefixCache
from agentmesh.economy.planner import Gaps, plan
from agentmesh.economy.semantics import semantics
from agentmesh.economy.tokens import count
from agentmesh.emulator.anthropic import Messages
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.responses import Responses
from agentmesh.emulator.wire import Parsed
from agentmesh.errors import InputError
from agentmesh.prompt import Entry, Prompt, Segment, ToolSpec
from agentmesh.providers import connect, to_messages, to_tools

MODELS = (
    "anthropic:claude-opus-5-5",
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-haiku-4-5",
    "anthropic:claude-sonnet-4-6",
    "openai:gpt-6.1-sol",
    "openai:gpt-5.6",
    "openai:gpt-5",
    "openai:gpt-4o",
)

TEXT = "the quick brown fox jumps over the lazy dog while the cache stays warm " * 400


@dataclass(frozen=True)
class Case:
    """One session of a model: its frozen part, its log, and where its calls were made."""

    model: str
    tools: tuple[ToolSpec, ...]
    segments: tuple[Segment, ...]
    entries: tuple[Entry, ...]
    stops: tuple[int, ...]
    gaps: Gaps | None

    @property
    def layers(self) -> list[tuple[str, int]]:
        tools = sum(count(t.name + t.description + t.parameters) for t in self.tools)
        return [("tools", tools), *((s.name, count(s.text)) for s in self.segments)]


def cases(number: int, seed: int) -> Iterator[Case]:
    """Yield as many sessions as asked for; the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(number):
        yield _case(rng)


def _case(rng: random.Random) -> Case:
    tools = tuple(
        ToolSpec(f"tool_{i:02}", _text(rng, 200), '{"properties":{},"type":"object"}')
        for i in range(rng.choice((0, 0, 1, 3, 12)))
    )
    names = ["core", *(n for n in ("org", "profile", "task", "digest") if rng.random() < 0.4)]
    size = rng.choice((40, 400, 4_000, 20_000))
    segments = tuple(Segment(name, _text(rng, size)) for name in names)
    entries = tuple(_log(rng, rng.choice((1, 3, 8, 20, 45))))
    asked = [i + 1 for i, entry in enumerate(entries) if entry.kind in ("user", "tool", "note")]
    asked = [stop for stop in asked if _answered(entries[:stop])] or [1]
    stops = sorted(rng.sample(asked, min(len(asked), rng.choice((1, 2, 3)))))
    gaps = None
    if rng.random() < 0.5:
        spread = rng.choice((10.0, 400.0, 4_000.0))
        gaps = Gaps(
            [rng.expovariate(1 / spread) for _ in range(8)],
            [rng.expovariate(1 / (3 * spread)) for _ in range(8)],
        )
    return Case(rng.choice(MODELS), tools, segments, entries, tuple(stops), gaps)


def _log(rng: random.Random, length: int) -> Iterator[Entry]:
    yield _entry(1, "user", [_said(rng)])
    seq = 1
    while seq < length:
        blocks: list[dict[str, Any]] = [_said(rng)] if rng.random() < 0.5 else []
        calls = [f"c{seq}_{i}" for i in range(rng.choice((0, 1, 1, 2, 30)))]
        blocks += [{"type": "call", "id": c, "name": "find", "arguments": "{}"} for c in calls]
        blocks = blocks or [_said(rng)]
        if rng.random() < 0.1:
            blocks.insert(0, {"type": "opaque", "model": "other:model", "data": {"a": 1}})
        yield _entry(seq := seq + 1, "assistant", blocks)
        for call in calls:
            text = _text(rng, 300) if rng.random() < 0.95 else ""
            result = {"type": "result", "id": call, "name": "find", "text": text, "error": False}
            yield _entry(seq := seq + 1, "tool", [result])
        if not calls or rng.random() < 0.1:
            said = [_said(rng) for _ in range(rng.choice((1, 1, 2, 25)))]
            yield _entry(seq := seq + 1, "note" if calls else "user", said)


def _entry(seq: int, kind: Any, blocks: list[dict[str, Any]]) -> Entry:
    tokens = sum(count(b.get("text") or b.get("arguments", "") + b.get("name", "")) for b in blocks)
    return Entry(seq, 1, seq, kind, canonical.dumps({"blocks": blocks}), tokens)


def _said(rng: random.Random) -> dict[str, Any]:
    return {"type": "text", "text": _text(rng, 600) if rng.random() < 0.97 else " "}


def _text(rng: random.Random, size: int) -> str:
    start = rng.randrange(200)
    return TEXT[start : start + rng.randrange(1, size)].strip() or "x"


def _answered(entries: tuple[Entry, ...]) -> bool:
    asked = [b["id"] for e in entries for b in e.blocks if b["type"] == "call"]
    done = {b["id"] for e in entries for b in e.blocks if b["type"] == "result"}
    return all(call in done for call in asked)


class Judge:
    """Sends each plan as its vendor's request to the emulator's reader and cache, without HTTP."""

    def __init__(self, models: Sequence[str] = MODELS) -> None:
        self._models = {name: connect(name, base_url="http://127.0.0.1:9") for name in models}

    def faults(self, case: Case) -> list[str]:
        """Return what is wrong with the requests of a session; nothing if all is well."""
        rules = semantics(case.model)
        cache = PrefixCache(rules, clock=lambda: 0.0)
        found: list[str] = []
        anchor: int | None = None
        written = 0
        for stop in case.stops:
            shown = case.entries[:stop]
            made = plan(case.layers, shown, rules, anchor=anchor, gaps=case.gaps)
            prompt = Prompt(case.tools, case.segments, shown, tail="Now.", marks=made.marks)
            try:
                parsed = self.read(case.model, prompt)
            except (Refusal, InputError) as refusal:
                return [*found, f"refused: {refusal}"]
            marked = sum(block.mark is not None for block in parsed.blocks)
            if marked != len(made.places):
                found.append(f"{len(made.places)} marks planned, {marked} sent")
            if any(place.tokens < rules.minimum for place in made.places):
                found.append("a slot below the minimum")
            lookup = cache.look_up(parsed.blocks, implicit=parsed.implicit)
            cache.begin(lookup)
            if lookup.usage.read < written:
                found.append(f"read {lookup.usage.read} of {written} tokens written before")
            if made.places:
                written = lookup.usage.input - lookup.usage.fresh
            anchor = shown[-1].seq
        return found

    def read(self, model: str, prompt: Prompt) -> Parsed:
        """Return a prompt as its vendor reads it, or raise the vendor's refusal."""
        tools = to_tools(prompt)
        messages = to_messages(prompt, model)
        body = self._models[model].body(messages, tools=tools)
        dialect: Any = Messages() if model.startswith("anthropic:") else Responses()
        read: Parsed = dialect.parse(body, "key")
        return read
