"""What a prompt offers to a student that copies: facts, the customer's tokens, tools' results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations
from typing import Any, NamedTuple

from agentmesh.distill.ensemble import MARKS
from agentmesh.distill.traces import Message

TOKEN = re.compile(
    r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+|#?\w*\d[\w./:-]*\w|#?\d|[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\"[^\"]+\""
)
_FACT = re.compile(r"^([\w][\w.-]*): (.+?)(?: \[[a-z ]+\])?$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,4})?")
_OPENING = re.compile(r"(?:^|[.!?,;:\n])\s*$")
_LEAVES = 400
_MARKS = 60
_DATES = 4
_DAYS = (0, 1, 7, 14, 30, 90)
_SHORT = 16
_TOGETHER = 6
_NAME_WORDS = 4


class Source(NamedTuple):
    """Where a value stands: `fact`, `now` (the latest message), `said` (any), `result`, `fixed`.
    `key` is the fact's name, the token's form and place, or the tool and the path in its result.
    """

    kind: str
    key: str


@dataclass(frozen=True)
class Scene:
    """A prompt taken apart: the latest words, what was done since, and every value with its source."""

    asked: str
    done: tuple[str, ...]
    earlier: tuple[str, ...]
    values: Mapping[Source, Any]
    places: Mapping[str, tuple[Source, ...]] = field(repr=False)
    answered: bool = False

    def sources(self, value: Any) -> tuple[Source, ...]:
        """Return where a value stands in the prompt."""
        return self.places.get(_plain(value), ())

    def text(self) -> str:
        """Return the prompt as a classifier reads it: the words, what was done, what came of it."""
        first = "later_answer" if self.answered else "first_answer"
        known = list(self._facts())
        marks = [f"did_{name}" for name in self.done] + [f"had_{name}" for name in self.earlier]
        marks += [first, f"steps_{len(self.done)}", "_".join([first, *known[:_TOGETHER]])]
        marks += [f"know_{key}" for key in known]
        told = ["told", *self._results()]
        return MARKS.join([self.asked.replace(MARKS, " "), " ".join(marks), " ".join(told)])

    def _facts(self) -> Iterator[str]:
        """Yield what is known before anybody speaks: that there is a fact, and a short one's value."""
        for source, value in self.values.items():
            if source.kind == "fact" and "/" not in source.key:
                yield _word(source.key)
                if isinstance(value, str) and len(value) <= _SHORT and value.isalpha():
                    yield _word(f"{source.key}_{value}")

    def _results(self) -> list[str]:
        """Return what tools told, as words: states, sizes of numbers, how dates lie to each other."""
        marks: list[str] = []
        dates: list[tuple[str, date]] = []
        for source, value in self.values.items():
            if source.kind != "result":
                continue
            if isinstance(value, str | bool) and _is_state(value):
                marks.append(_word(f"got_{source.key}_{value}"))
            elif (number := _number(value)) is not None:
                marks.append(_word(f"size_{source.key}_{_size(number)}"))
            elif (day := _day(value)) is not None:
                dates.append((source.key, day))
            else:
                marks.append(_word(f"got_{source.key}"))
        near = sorted(dates, key=lambda item: (item[0].count("/"), item[0]))[:_DATES]
        for (one, first), (other, second) in combinations(near, 2):
            apart = (second - first).days
            sign = "after" if apart > 0 else "before" if apart < 0 else "on"
            step = sum(abs(apart) > edge for edge in _DAYS)
            marks += [_word(f"{other}_{sign}_{one}"), _word(f"{other}_{sign}_{one}_{step}")]
        return marks[:_MARKS]


def scene_of(messages: Sequence[Message]) -> Scene:
    """Take a prompt apart."""
    users = [i for i, m in enumerate(messages) if m["role"] == "user"]
    last = users[-1] if users else -1
    asked = str(messages[last].get("content") or "") if users else ""
    values: dict[Source, Any] = {}
    names: dict[str, str] = {}
    done: list[str] = []
    earlier: list[str] = []
    for i, message in enumerate(messages):
        text = str(message.get("content") or "")
        if message["role"] == "system":
            for match in _FACT.finditer(text):
                values.update(_fact(match[1], _value(match[2])))
        elif message["role"] == "user":
            values.update(_tokens("said", text))
        elif message["role"] == "assistant":
            for call in message.get("tool_calls") or ():
                names[call["id"]] = call["function"]["name"]
                (done if i > last else earlier).append(call["function"]["name"])
        elif message["role"] == "tool":
            name = names.get(message["tool_call_id"], "tool")
            for path, leaf in leaves(_value(text)):
                values[Source("result", f"{name}/{path}")] = leaf
    values.update(_tokens("now", asked))
    places: dict[str, list[Source]] = {}
    for source, value in values.items():
        places.setdefault(_plain(value), []).append(source)
    found = {value: tuple(sorted(sources, key=rank)) for value, sources in places.items()}
    answered = any(m["role"] == "assistant" and m.get("content") for m in messages)
    return Scene(asked, tuple(done), tuple(dict.fromkeys(earlier)), values, found, answered)


def _fact(key: str, value: Any) -> Iterator[tuple[Source, Any]]:
    """Yield a fact, and the words of one that has several: a first name is part of a name."""
    yield Source("fact", key), value
    words = value.split() if isinstance(value, str) else []
    if 1 < len(words) <= _NAME_WORDS:
        yield from ((Source("fact", f"{key}/{i}"), word) for i, word in enumerate(words))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of every leaf of JSON."""
    stack, left = [(path, value)], _LEAVES
    while stack and left:
        path, value = stack.pop()
        left -= 1
        if isinstance(value, dict) and value:
            stack += [(f"{path}/{key}" if path else str(key), v) for key, v in value.items()]
        elif isinstance(value, list) and value:
            stack += [(f"{path}/{i}" if path else str(i), v) for i, v in enumerate(value)]
        else:
            yield path, value


def form(token: str) -> str:
    """Return a token's form: `#W2378156` and `#W1` are both `#A9`."""
    shape = re.sub(r"[A-Z]+", "A", re.sub(r"[a-z]+", "a", token))
    return re.sub(r"\d+", "9", shape)


def _tokens(kind: str, text: str) -> Iterator[tuple[Source, Any]]:
    """Yield tokens by form, counted from the front; the last one of a form is also `-1`."""
    seen: dict[str, int] = {}
    for match in TOKEN.finditer(text):
        token = match[0].strip('"')
        if token.isalpha() and _OPENING.search(text, 0, match.start()):
            continue  # a capital letter that only begins a sentence
        shape = form(token)
        seen[shape] = seen.get(shape, -1) + 1
        yield Source(kind, f"{shape}@{seen[shape]}"), token
        yield Source(kind, f"{shape}@-1"), token


_ORDER = ("result", "now", "fact", "said", "fixed")


def rank(source: Source) -> tuple[int, str]:
    """Return the order in which sources of one value are trusted, the most specific first."""
    return _ORDER.index(source.kind), source.key


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    return float(value)


def _size(number: float) -> str:
    """Return a number's order of magnitude: 0, or how many digits it has before the point."""
    return "0" if number == 0 else f"{'m' if number < 0 else ''}{len(str(int(abs(number))))}"


def _day(value: Any) -> date | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value[:10]):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text)


def _is_state(value: Any) -> bool:
    return isinstance(value, bool) or bool(re.fullmatch(r"[a-z][a-z _-]{1,24}", value))
