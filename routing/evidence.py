"""What can be seen of a draft without a model: the evidence that a trained verifier weighs.

Schema checks alone find next to nothing in a modern model's tool calls. What goes wrong is a
value that nobody gave, an option that nobody asked for, a call too many or too few, and a call
where no tool fits; all of that leaves traces, and none of them proves anything alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from agentmesh.routing.drafts import Draft, ToolFacts
from agentmesh.routing.features import plain

_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_.\-/]")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_QUOTED = re.compile(r"['\"“‘]([^'\"”’]{1,60})['\"”’]")
_AND = re.compile(r"\b(?:and|also|then|as well as|plus|both|respectively|each|;)\b", re.IGNORECASE)
_STEPS = re.compile(
    r"\b(?:then|after that|next|finally|additionally|also|first|second)\b", re.IGNORECASE
)
_ASKS_WHAT = re.compile(r"^\W*(?:who|what|when|where|why|which|how)\b", re.IGNORECASE)
_OPTION_WORDS = re.compile(r"\b(?:with|using|by|in|at|for|from|to|over|of)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i (?:can(?:no|')t|am (?:unable|not able)|don't have)|as an ai|i'm sorry|unable to)\b",
    re.IGNORECASE,
)
_STOP = frozenset(
    _WORD.findall(
        "a an the of in on at to for from with by and or is are was were be been do does did can could"
        " would will i me my you your it its this that these those what which who how when where why"
        " please find get give tell show use using also then as if so there their they we our us has"
        " have had not no than into over per each between about"
    )
)
_NUMBER_WORDS = dict(
    zip(
        _WORD.findall("zero one two three four five six seven eight nine ten eleven twelve"),
        range(13),
        strict=True,
    )
)


class _Argument(NamedTuple):
    """One leaf of a call's arguments: its value, and what the schema says of its parameter."""

    name: str
    value: Any
    schema: Mapping[str, Any]
    required: bool


def draft_evidence(
    question: str, draft: Draft, tools: Mapping[str, ToolFacts], seen: str = ""
) -> dict[str, float]:
    """Return the evidence on `draft` as an answer to `question`, each value within 0 and 1.

    `question` is what the customer asked: the words that calls are held against. A value may also
    come from `seen`, all else that the model was shown; that is the one thing it counts for, so
    that nobody can talk a draft right from within a tool's output.
    """
    asked = _Asked(question, seen)
    calls = [(call, tools.get(call.name), _parse(call.arguments)) for call in draft.calls]
    values = [a for _, facts, args in calls for a in _arguments(facts, args)]
    names = [call.name for call in draft.calls]
    found = {
        "no call": float(not calls),
        "calls": min(1.0, len(calls) / 5),
        "tools offered": min(1.0, len(tools) / 4),
        "tools unused": 1 - len(set(names) & set(tools)) / max(1, len(tools)),
        "one tool, many calls": float(len(names) > 1 and len(set(names)) == 1),
        "many tools called": float(len(set(names)) > 1),
        "same call twice": float(len({(c.name, c.arguments) for c, _, _ in calls}) < len(calls)),
        "arguments not JSON": float(any(args is None for _, _, args in calls)),
        "reads like a refusal": float(bool(_REFUSAL.search(draft.text))),
        "answers in words": min(1.0, len(draft.text) / 800),
        **_wording(asked, calls),
        **_values(asked, values),
        **_coverage(asked, calls, tools, values),
        **_splitting(asked, calls),
    }
    return {name: min(1.0, max(0.0, float(value))) for name, value in found.items()}


class _Asked:
    """The question, taken apart once; what else was seen is read only where a value needs it."""

    def __init__(self, text: str, seen: str = "") -> None:
        self.text = text
        self.seen = "" if seen == text else seen
        self.plain = plain(text)
        self.words = [w for w in _WORD.findall(self.plain) if w not in _STOP]
        self.stems = {_stem(w) for w in self.words}
        self.numbers = {_number(n) for n in _NUMBER.findall(text)} - {None}
        self.numbers |= {float(_NUMBER_WORDS[w]) for w in self.words if w in _NUMBER_WORDS}
        self.percents = {_number(n) for n in re.findall(r"(-?\d[\d,.]*) ?(?:%|percent)", text)}

    def shows(self, value: str | float) -> bool:
        """Say whether a text or a number stands in what was seen besides the question."""
        if isinstance(value, str):
            return bool(value) and value.lower() in self._lower_seen
        spelt = {f"{value:g}", f"{value:,}", f"{value:,.2f}", f"{value:.2f}", str(value)}
        return any(_stands_alone(form, self.seen) for form in spelt)

    @cached_property
    def _lower_seen(self) -> str:
        return self.seen.lower()


def _stands_alone(number: str, text: str) -> bool:
    """Say whether a number as it is written stands in a text, and not inside a longer one."""
    at = text.find(number)
    while at >= 0:
        before, after = text[max(0, at - 2) : at], text[at + len(number) :][:2]
        if not re.search(r"\d[.,]?$", before) and not re.match(r"[.,]?\d", after):
            return True
        at = text.find(number, at + 1)
    return False


def _wording(asked: _Asked, calls: Sequence[Any]) -> dict[str, float]:
    ands = len(_AND.findall(asked.text))
    return {
        "conjunctions": min(1.0, ands / 4),
        "steps named": min(1.0, len(_STEPS.findall(asked.text)) / 3),
        "sentences asked": min(1.0, len(re.findall(r"[.?!](?:\s|$)", asked.text)) / 4),
        "fewer calls than conjunctions": min(1.0, max(0, ands + 1 - len(calls)) / 4),
        "more calls than conjunctions": min(1.0, max(0, len(calls) - 1 - ands) / 3),
        "asks what or how": float(bool(_ASKS_WHAT.search(asked.text))),
        "length of the question": min(1.0, len(asked.text) / 500),
        "numbers asked": min(1.0, len(asked.numbers) / 8),
        "quotations": min(1.0, len(_QUOTED.findall(asked.text)) / 4),
        "commas asked": min(1.0, asked.text.count(",") / 6),
    }


def _values(asked: _Asked, values: Sequence[_Argument]) -> dict[str, float]:
    invented = [a for a in values if not _traceable(a.value, asked)]
    optional = [a for a in values if not a.required]
    not_default = [a for a in invented if a.value != a.schema.get("default")]
    texts = [a for a in values if isinstance(a.value, str)]
    whole = [a for a in values if isinstance(a.value, int) and not isinstance(a.value, bool)]
    return {
        "values": min(1.0, len(values) / 12),
        "share invented": len(invented) / max(1, len(values)),
        "invented": min(1.0, len(invented) / 4),
        "required invented": min(1.0, sum(a.required for a in invented) / 2),
        "optional invented": min(1.0, sum(not a.required for a in not_default) / 2),
        "optional set": min(1.0, len(optional) / 4),
        "option set to its default": min(1.0, (len(invented) - len(not_default)) / 2),
        "flag set to no": min(1.0, sum(a.value is False for a in values) / 2),
        "flag set to yes": min(1.0, sum(a.value is True for a in values) / 2),
        "number invented": min(1.0, sum(_is_number(a.value) for a in not_default) / 2),
        "text invented": min(1.0, sum(isinstance(a.value, str) for a in not_default) / 2),
        "text partly traceable": min(1.0, sum(_partly(a.value, asked) for a in texts) / 2),
        "empty text": min(1.0, sum(a.value == "" for a in texts)),
        "date invented": float(any(re.search(r"\d{4}-\d\d", str(a.value)) for a in not_default)),
        "percent as it stands": float(any(float(a.value) in asked.percents for a in whole)),
        "whole number where a fraction is due": min(
            1.0, sum(a.schema.get("type") in ("float", "number") for a in whole) / 3
        ),
        "list of": min(
            1.0, max((len(a.value) for a in values if _is_list(a.value)), default=0) / 8
        ),
        "fractions in a list": float(any(_whole_list(a) for a in values)),
        "text in capitals": min(1.0, sum(a.value.isupper() for a in texts) / 2),
        "longest text": min(1.0, max((len(a.value) for a in texts), default=0) / 60),
        "code-like text": float(any(re.search(r"[*^=(){}\[\]]", a.value) for a in texts)),
        "place with a comma": float(any(re.search(r"\w, \w", a.value) for a in texts)),
        "choice among few": min(1.0, sum("enum" in a.schema for a in values) / 3),
    }


def _coverage(
    asked: _Asked,
    calls: Sequence[Any],
    tools: Mapping[str, ToolFacts],
    values: Sequence[_Argument],
) -> dict[str, float]:
    """Return how far the question's words are in the tools called, and in their arguments."""
    fits = {name: _fit(asked, name, facts) for name, facts in tools.items()}
    called = [fits[call.name] for call, _, _ in calls if call.name in fits]
    used = {_stem(w) for a in values for w in _WORD.findall(plain(json.dumps(a.value)))}
    known: set[str] = set(used)
    for call, facts, _ in calls:
        if facts is not None:
            known |= _vocabulary(call.name, facts)
    names = {_stem(w) for call, _, _ in calls for w in _split_name(call.name)}
    given = {n for a in values for n in _numbers_in(a.value)}
    lost = asked.numbers - given - {n / 100 for n in given} - {n * 100 for n in given}
    best = max(fits.values(), default=0.0)
    unused = [fit for name, fit in fits.items() if name not in {c.name for c, _, _ in calls}]
    return {
        "words covered": len(asked.stems & known) / max(1, len(asked.stems)),
        "words not covered": min(1.0, len(asked.stems - known) / 8),
        "words in arguments": len(asked.stems & used) / max(1, len(asked.stems)),
        "tool named in the question": len(asked.stems & names) / max(1, len(names)),
        "worst tool fits": min(called, default=0.0),
        "best tool fits": best,
        "better tool unused": float(max(unused, default=0.0) > min(called, default=0.0) > 0),
        "unused tool fits": max(unused, default=0.0),
        "numbers not used": min(1.0, len(lost) / 3),
        "share of numbers not used": len(lost) / max(1, len(asked.numbers)),
    }


def _splitting(asked: _Asked, calls: Sequence[Any]) -> dict[str, float]:
    """Return the traces of one call made several, or of several made one."""
    names = [call.name for call, _, _ in calls]
    repeated = [
        (facts, args) for call, facts, args in calls if names.count(call.name) > 1 and facts
    ]
    takes_list = any(
        _type(schema) == "array" for facts, _ in repeated for schema in _properties(facts).values()
    )
    lists = [v for _, _, args in calls for v in (args or {}).values() if _is_list(v)]
    differ = _differing(calls)
    optional = [
        name
        for _, facts, args in calls
        if facts is not None
        for name in _properties(facts)
        if name not in (args or {}) and name not in facts.parameters.get("required", ())
    ]
    mentioned = [n for n in optional if {_stem(w) for w in _split_name(n)} <= asked.stems]
    return {
        "one list split into calls": float(takes_list),
        "single item lists": min(1.0, sum(len(v) == 1 for v in lists) / 2),
        "arguments that differ": min(1.0, differ / 3),
        "option asked for but left out": min(1.0, len(mentioned) / 2),
        "options left out": min(1.0, len(optional) / 6),
        "prepositions": min(1.0, len(_OPTION_WORDS.findall(asked.text)) / 8),
        "calls beyond tools": min(1.0, max(0, len(calls) - len(set(names))) / 4),
    }


def _differing(calls: Sequence[Any]) -> int:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for call, _, args in calls:
        by_name.setdefault(call.name, []).append(args or {})
    most = 0
    for group in by_name.values():
        keys = set().union(*group)
        differing = [k for k in keys if len({json.dumps(g.get(k)) for g in group}) > 1]
        most = max(most, len(differing))
    return most


def _arguments(facts: ToolFacts | None, args: dict[str, Any] | None) -> Iterator[_Argument]:
    properties = _properties(facts) if facts else {}
    required = facts.parameters.get("required", ()) if facts else ()
    for name, value in (args or {}).items():
        schema = properties.get(name, {})
        yield _Argument(name, value, schema if isinstance(schema, dict) else {}, name in required)


def _properties(facts: ToolFacts) -> dict[str, Any]:
    properties = facts.parameters.get("properties", {})
    return properties if isinstance(properties, dict) else {}


def _type(schema: Any) -> str:
    return str(schema.get("type", "")) if isinstance(schema, dict) else ""


def _vocabulary(name: str, facts: ToolFacts) -> set[str]:
    text = json.dumps(facts.parameters, ensure_ascii=False) + " " + facts.description
    words = [w for w in _WORD.findall(plain(text)) if w not in _STOP]
    return {_stem(w) for w in (*words, *_split_name(name))}


def _fit(asked: _Asked, name: str, facts: ToolFacts) -> float:
    """Return the share of the tool's own words (name and description) that were asked for."""
    described = [w for w in _WORD.findall(plain(facts.description)) if w not in _STOP]
    words = {_stem(w) for w in (*described, *_split_name(name))}
    return len(words & asked.stems) / max(1, len(words))


def _split_name(name: str) -> list[str]:
    return [w for w in _WORD.findall(plain(_CAMEL.sub(" ", name))) if w not in _STOP]


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _traceable(value: Any, asked: _Asked) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if _is_number(value):
        forms = {float(value), float(value) * 100, float(value) / 100}
        return bool(forms & asked.numbers) or asked.shows(value)
    if isinstance(value, str):
        if plain(value) in asked.plain:
            return bool(value)
        if asked.shows(value):
            return True
        words = [w for w in _WORD.findall(plain(value)) if w not in _STOP]
        return bool(words) and all(_stem(w) in asked.stems or w in asked.plain for w in words)
    if isinstance(value, list):
        return all(_traceable(item, asked) for item in value)
    if isinstance(value, dict):
        return all(_traceable(item, asked) for item in value.values())
    return False


def _partly(value: str, asked: _Asked) -> bool:
    words = {_stem(w) for w in _WORD.findall(plain(value)) if w not in _STOP}
    known = len(words & asked.stems)
    return 0 < known < len(words)


def _numbers_in(value: Any) -> set[float]:
    return {n for n in map(_number, _NUMBER.findall(json.dumps(value))) if n is not None}


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").rstrip("."))
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _whole_list(argument: _Argument) -> bool:
    items = argument.schema.get("items")
    fraction = isinstance(items, dict) and items.get("type") in ("float", "number")
    return fraction and _is_list(argument.value) and all(isinstance(v, int) for v in argument.value)


def _parse(arguments: str) -> dict[str, Any] | None:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
