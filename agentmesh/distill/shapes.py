"""Answers as shapes: which tools are called or which template is said, and how its slots are filled.

A shape is learned from answers that differ only in values that stand somewhere in the prompt.
Each slot remembers the sources that had its value most often, best first.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agentmesh import canonical
from agentmesh.distill.scene import Scene, Source, leaves, rank
from agentmesh.distill.traces import Message

_SLOT = re.compile(r"\{(\d+)\}")
_OPENING = re.compile(r"([^.!?,:]{2,24}(?:, \{0\})?[,:!]) (?=\S)")
_WORDS = re.compile(r"\{\d+\}|[^{}]+|[{}]")
_SOURCES = 4
"""Sources that a slot remembers."""


COMPUTED = "computed"
"""The shape of calls with an amount that stands nowhere: who copies does not compute."""


class Taken(NamedTuple):
    """An answer taken apart: its shape's name, and the values of its slots in order."""

    shape: str
    values: tuple[Any, ...]


def take(answer: Message, scene: Scene) -> Taken:
    """Return the shape of an answer given in a scene."""
    calls = answer.get("tool_calls") or ()
    if not calls:
        return _take_text(str(answer.get("content") or ""), scene)
    plan: list[list[Any]] = []
    values: list[Any] = []
    for call in calls:
        try:
            arguments = json.loads(call["function"]["arguments"] or "{}")
        except ValueError:
            arguments = {}
        found = sorted(leaves(arguments))
        copied = [(path, value) for path, value in found if path and scene.sources(value)]
        fixed = [[path, value] for path, value in found if path and not scene.sources(value)]
        if any(isinstance(value, float) for _, value in fixed):
            return Taken(COMPUTED, ())
        plan.append([call["function"]["name"], [path for path, _ in copied], fixed])
        values += [value for _, value in copied]
    said = str(answer.get("content") or "")
    return Taken(canonical.dumps({"calls": plan, "said": said}), tuple(values))


def _take_text(text: str, scene: Scene) -> Taken:
    """Replace what the scene holds by slots, the longest values first."""
    spans: list[tuple[int, int, str]] = []
    for value in sorted(scene.places, key=len, reverse=True):
        if (len(value) < 2 and not value.isdigit()) or value in (
            "true",
            "false",
            "null",
            "{}",
            "[]",
            '""',
        ):
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
            if all(match.end() <= a or match.start() >= b for a, b, _ in spans):
                spans.append((match.start(), match.end(), value))
    spans.sort()
    parts: list[str] = []
    values: list[str] = []
    at = 0
    for start, end, value in spans:
        parts += [_guard(text[at:start]), f"{{{len(values)}}}"]
        values.append(value)
        at = end
    parts.append(_guard(text[at:]))
    return Taken(canonical.dumps({"say": "".join(parts)}), tuple(values))


def opening_of(taken: Taken) -> tuple[Taken, Taken] | None:
    """Return the first clause of a said answer and what follows it, or None where it has none."""
    plan = {} if taken.shape == COMPUTED else canonical.loads(taken.shape)
    match = _OPENING.match(plan.get("say", ""))
    if match is None:
        return None
    first, rest = match[1], plan["say"][match.end() :]
    n = len(_SLOT.findall(first))
    rest = _SLOT.sub(lambda slot: f"{{{int(slot[1]) - n}}}", rest)
    shapes = (canonical.dumps({"say": text}) for text in (first, rest))
    return Taken(next(shapes), taken.values[:n]), Taken(next(shapes), taken.values[n:])


def openings(taken: Iterable[Taken], least: int) -> set[str]:
    """Return the first clauses that stand before at least `least` different answers."""
    rests: dict[str, set[str]] = defaultdict(set)
    for one in taken:
        if parts := opening_of(one):
            rests[parts[0].shape].add(parts[1].shape)
    return {first for first, after in rests.items() if len(after) >= least}


def _guard(text: str) -> str:
    """Keep a text's own braces apart from slots."""
    return re.sub(r"\{(?=\d+\})", "{\u200b", text)


def learn(values: Sequence[Sequence[Any]], scenes: Sequence[Scene]) -> list[list[list[Any]]]:
    """Return, for each slot, its sources as `[kind, key]`, those that had its value most first."""
    slots = []
    for place in range(len(values[0])):
        counts: Counter[Source] = Counter()
        for row, scene in zip(values, scenes, strict=True):
            counts.update(scene.sources(row[place]))
            counts[Source("fixed", canonical.dumps(row[place]))] += 1
        best = sorted(counts.items(), key=lambda item: (-item[1], rank(item[0])))
        need = max(2, best[0][1] // 10) if len(values) > 1 else 1
        slots.append([[s.kind, s.key] for s, n in best[:_SOURCES] if n >= need])
    return slots


def make(
    shape: str, slots: Sequence[Sequence[Sequence[str]]], scene: Scene, call_id: str = "call_0"
) -> Message | None:
    """Return the answer of a shape in a scene, or None where a slot's value is nowhere."""
    values: list[Any] = []
    for sources in slots:
        found = next(
            (v for kind, key in sources if (v := _find(kind, key, scene)) is not None), None
        )
        if found is None:
            return None
        values.append(found[0])
    plan = canonical.loads(shape)
    if "say" in plan:
        parts = (
            _text(values[int(m[1])]) if (m := _SLOT.fullmatch(part)) else part
            for part in _WORDS.findall(plan["say"])
        )
        return {"role": "assistant", "content": "".join(parts).replace("{\u200b", "{")}
    calls, at = [], 0
    for number, (name, paths, fixed) in enumerate(plan["calls"]):
        filled = dict(zip(paths, values[at : at + len(paths)], strict=True))
        filled |= dict(fixed)
        at += len(paths)
        arguments = json.dumps(build(filled), ensure_ascii=False)
        function = {"name": name, "arguments": arguments}
        this = call_id if len(plan["calls"]) == 1 else f"{call_id}_{number}"
        calls.append({"id": this, "type": "function", "function": function})
    return {"role": "assistant", "content": plan["said"] or None, "tool_calls": calls}


def _find(kind: str, key: str, scene: Scene) -> tuple[Any] | None:
    if kind == "fixed":
        return (canonical.loads(key),)
    source = Source(kind, key)
    return (scene.values[source],) if source in scene.values else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def build(filled: Mapping[str, Any]) -> Any:
    """Return the JSON value that has these leaves."""
    if set(filled) == {""}:
        return filled[""]
    root: dict[str, Any] = {}
    for path, value in filled.items():
        node, *rest = path.split("/")
        here = root
        for part in rest:
            here = here.setdefault(node, {})
            node = part
        here[node] = value
    return _listed(root)


def _listed(value: Any) -> Any:
    """Turn objects whose keys count from 0 into lists."""
    if not isinstance(value, dict):
        return value
    items = {key: _listed(item) for key, item in value.items()}
    if items and sorted(items) == sorted(str(i) for i in range(len(items))):
        return [items[str(i)] for i in range(len(items))]
    return items


def usual(shapes: Iterable[str], least: int) -> set[str]:
    """Return the shapes that occur at least `least` times."""
    counts = Counter(shape for shape in shapes if shape != COMPUTED)
    return {shape for shape, n in counts.items() if n >= least}
