"""Answers as shapes: which tools are called or which template is said, and how its slots are filled.

A shape is learned from answers that differ only in values that stand somewhere in the prompt, as
a whole argument or within a text. Each slot remembers where its value is to be looked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agentmesh import canonical
from agentmesh.distill.scene import Scene, Source, leaves, rank, same
from agentmesh.distill.traces import Message

_SLOT = re.compile(r"\{(\d+)\}")
_OPENING = re.compile(r"([^.!?,:]{2,24}(?:, \{0\})?[,:!]) (?=\S)")
_WORDS = re.compile(r"\{\d+\}|[^{}]+|[{}]")
_SOURCES = 8
"""Sources that a slot remembers."""

_CANDIDATES = 40
"""Sources of a slot's values that are weighed against each other, the most frequent ones."""

_WRONG = 3
"""How many right values a wrong one outweighs."""

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
        others = [(path, value) for path, value in found if path and not scene.sources(value)]
        if any(isinstance(value, float) for _, value in others):
            return Taken(COMPUTED, ())
        told = {path: _slotted(value, scene) for path, value in others if _sentence(value)}
        texts = [[path, text] for path, (text, inside) in told.items() if inside]
        fixed = [[path, value] for path, value in others if not told.get(path, ("", []))[1]]
        plan.append([call["function"]["name"], [path for path, _ in copied], fixed, texts])
        values += [value for _, value in copied]
        values += [value for path, _ in texts for value in told[path][1]]
    said = str(answer.get("content") or "")
    return Taken(canonical.dumps({"calls": plan, "said": said}), tuple(values))


def _sentence(value: Any) -> bool:
    """Say whether an argument is a text of several words, in which values may stand."""
    return isinstance(value, str) and value.count(" ") > 1


def _take_text(text: str, scene: Scene) -> Taken:
    slotted, values = _slotted(text, scene)
    return Taken(canonical.dumps({"say": slotted}), tuple(values))


def _slotted(text: str, scene: Scene) -> tuple[str, list[str]]:
    """Return a text with slots for what the scene holds, the longest values first, and the values."""
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
        if value not in text:
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
    return "".join(parts), values


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
    """Return, for each slot, its sources as `[kind, key]`: the first that is there has the value."""
    return [
        [[s.kind, s.key] for s in _learn_slot([row[place] for row in values], scenes)]
        for place in range(len(values[0]))
    ]


def _learn_slot(values: Sequence[Any], scenes: Sequence[Scene]) -> list[Source]:
    """Return the sources of a slot, in the order in which they are looked for.

    One after the other is chosen by how often it is right where those before it are not there,
    less what it gets wrong: what is often right must not hide what is always right. Of two that
    are right as often, the one that the last tool told is meant.
    """
    counts: Counter[Source] = Counter()
    told_last: Counter[Source] = Counter()
    for value, scene in zip(values, scenes, strict=True):
        found = scene.sources(value)
        counts.update(found)
        counts[Source("fixed", canonical.dumps(value))] += 1
        last = f"{scene.done[-1]}/" if scene.done else None
        told_last.update(s for s in found if s.kind == "result" and last and s.key.startswith(last))
    usual = sorted(counts, key=lambda s: (-counts[s], -told_last[s], rank(s)))[:_CANDIDATES]
    least = 2 if len(values) > 1 else 1
    left, chosen = list(range(len(values))), list[Source]()
    while left and len(chosen) < _SOURCES:
        scores: list[tuple[int, int, Source]] = []
        for at, source in enumerate(usual):
            there = [i for i in left if _find(source, scenes[i]) is not None]
            right = sum(same((_find(source, scenes[i]) or ("",))[0], values[i]) for i in there)
            if right >= least and right > _WRONG * (len(there) - right):
                scores.append((right - _WRONG * (len(there) - right), -at, source))
        if not scores:
            break
        best = max(scores)[2]
        chosen.append(best)
        left = [i for i in left if _find(best, scenes[i]) is None]
    return chosen or usual[:1]


def make(
    shape: str, slots: Sequence[Sequence[Sequence[str]]], scene: Scene, call_id: str = "call_0"
) -> Message | None:
    """Return the answer of a shape in a scene, or None where a slot's value is nowhere."""
    values: list[Any] = []
    for sources in slots:
        found = next(
            (v for kind, key in sources if (v := _find(Source(kind, key), scene)) is not None), None
        )
        if found is None:
            return None
        values.append(found[0])
    plan = canonical.loads(shape)
    if "say" in plan:
        return {"role": "assistant", "content": _filled(plan["say"], values)}
    calls, at = [], 0
    for number, (name, paths, fixed, texts) in enumerate(plan["calls"]):
        filled = dict(zip(paths, values[at : at + len(paths)], strict=True)) | dict(fixed)
        at += len(paths)
        for path, text in texts:
            filled[path] = _filled(text, values[at:])
            at += len(_SLOT.findall(text))
        arguments = json.dumps(build(filled), ensure_ascii=False)
        function = {"name": name, "arguments": arguments}
        this = call_id if len(plan["calls"]) == 1 else f"{call_id}_{number}"
        calls.append({"id": this, "type": "function", "function": function})
    return {"role": "assistant", "content": plan["said"] or None, "tool_calls": calls}


def _filled(text: str, values: Sequence[Any]) -> str:
    parts = (
        _text(values[int(m[1])]) if (m := _SLOT.fullmatch(part)) else part
        for part in _WORDS.findall(text)
    )
    return "".join(parts).replace("{\u200b", "{")


def _find(source: Source, scene: Scene) -> tuple[Any] | None:
    if source.kind == "fixed":
        return (canonical.loads(source.key),)
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
