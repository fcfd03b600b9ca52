"""What a prompt offers to a student that copies: facts, the customer's words, tools' results."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations
from typing import Any, NamedTuple

from agentmesh.distill.ensemble import MARKS
from agentmesh.distill.lists import chosen
from agentmesh.distill.traces import Message

TOKEN = re.compile(
    r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"
    r"|#?(?:[^\W\d_]+-)?\w*\d(?:[\w./:-]*\w)?"
    r"|(?<!\w)[A-ZÀ-ÖØ-Þ][^\W\d]+(?:['-][^\W\d]+)*(?: [A-ZÀ-ÖØ-Þ][^\W\d]+(?:['-][^\W\d]+)*)*"
    r"|\"[^\"]+\""
)
"""Addresses, codes and numbers, names of capitalised words, what stands in quotes."""

_FACT = re.compile(r"^([\w][\w.-]*): (.+?)(?: \[[a-z ]+\])?$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,4})?")
_OPENING = re.compile(r"(?:^|[.!?,;:\n])\s*$")
_WORD = re.compile(r"\w+")
_LEAVES = 400
_MARKS = 80
_DATES = 5
_DAYS = (0, 1, 7, 14, 30, 90)
_SHORT = 16
_TOGETHER = 6
_NAME_WORDS = 4
_BEFORE = 3
"""Earlier messages of the customer that are values as a whole."""
_SAID_LAST = 4
"""Words of the agent's last answer that a classifier reads."""


class Source(NamedTuple):
    """Where a value stands: `fact`, `now` (the latest message), `said` (any), `before` (an earlier
    one as a whole), `result`, `fixed`.

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
    answered: str = ""
    """What the agent said last."""

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
        marks += [f"last_{word}" for word in _WORD.findall(self.answered)[:_SAID_LAST]]
        if self.answered.rstrip().endswith("?"):
            marks.append("last_asked")
        told = list(dict.fromkeys(self._results()))[:_MARKS]
        kinds = [f"{fact}_{mark}" for fact in self._kinds() for mark in [first, *self.done, *told]]
        parts = [" ".join(part) for part in (marks, ["told", *told], ["kinds", *kinds])]
        return MARKS.join([self.asked.replace(MARKS, " "), *parts])

    def _facts(self) -> Iterator[str]:
        """Yield what is known before anybody speaks: that there is a fact, and a short one's value."""
        for source in self.values:
            if source.kind == "fact" and "/" not in source.key:
                yield _word(source.key)
        yield from self._kinds()

    def _kinds(self) -> Iterator[str]:
        """Yield the facts that are of a few kinds, such as a language, with their values."""
        for source, value in self.values.items():
            short = isinstance(value, str) and len(value) <= _SHORT and value.isalpha()
            if short and source.kind == "fact" and "/" not in source.key:
                yield _word(f"{source.key}_{value}")

    def _results(self) -> Iterator[str]:
        """Yield what tools told in this turn, as words: states, sizes, how dates lie to each other."""
        dates: list[tuple[str, date]] = []
        rows: Counter[str] = Counter()
        for source, value in self.values.items():
            if source.kind != "result" or source.key.partition("/")[0] not in self.done:
                continue
            key, indices = re.subn(r"/\d+(?=/|$)", "/n", source.key)
            state = isinstance(value, str | bool) and _is_state(value)
            if indices:
                rows[f"{key}_{value}" if state else key] += 1
            elif state:
                yield _word(f"got_{key}_{value}")
            elif (number := _number(value)) is not None:
                yield _word(f"size_{key}_{_size(number)}")
            elif (day := _day(value)) is not None:
                dates.append((key, day))
            else:
                yield _word(f"got_{key}")
        yield from (_word(f"rows_{key}_{min(n, 4)}") for key, n in rows.items())
        yield from _apart(dates)


def scene_of(messages: Sequence[Message]) -> Scene:
    """Take a prompt apart."""
    users = [i for i, m in enumerate(messages) if m["role"] == "user"]
    last = users[-1] if users else -1
    asked = str(messages[last].get("content") or "") if users else ""
    values: dict[Source, Any] = {}
    names: dict[str, str] = {}
    done: list[str] = []
    earlier: list[str] = []
    answered = ""
    for i, message in enumerate(messages):
        text = str(message.get("content") or "")
        if message["role"] == "system":
            for match in _FACT.finditer(text):
                values.update(_fact(match[1], _value(match[2])))
        elif message["role"] == "user":
            values.update(_tokens("said", text))
        elif message["role"] == "assistant":
            answered = text or answered
            for call in message.get("tool_calls") or ():
                names[call["id"]] = call["function"]["name"]
                (done if i > last else earlier).append(call["function"]["name"])
        elif message["role"] == "tool":
            values.update(_told(names.get(message["tool_call_id"], "tool"), text, asked))
    values.update(_tokens("now", asked))
    values.update(_whole(messages, users))
    places: dict[str, list[Source]] = {}
    for source, value in values.items():
        places.setdefault(_plain(value), []).append(source)
    found = {value: tuple(sorted(sources, key=rank)) for value, sources in places.items()}
    return Scene(asked, tuple(done), tuple(dict.fromkeys(earlier)), values, found, answered)


def _told(name: str, text: str, asked: str) -> Iterator[tuple[Source, Any]]:
    """Yield a result's leaves by their paths, and those of rows that something tells from others."""
    value = _value(text)
    for path, leaf in leaves(value):
        yield Source("result", f"{name}/{path}"), leaf
    for path, row in chosen(value, asked):
        for inner, leaf in leaves(row):
            yield Source("result", f"{name}/{path}/{inner}"), leaf


def _whole(messages: Sequence[Message], users: Sequence[int]) -> Iterator[tuple[Source, Any]]:
    """Yield the customer's messages as wholes, the latest and those right before it."""
    for back, i in enumerate(reversed(users[-_BEFORE - 1 :])):
        text = str(messages[i].get("content") or "").strip()
        if " " in text:
            yield Source("before", str(back)), text


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
    letters = ("A" if c.isupper() else "a" if c.isalpha() else c for c in token)
    return re.sub(r"\d+", "9", re.sub(r"(A|a)\1+", r"\1", "".join(letters)))


def _tokens(kind: str, text: str) -> Iterator[tuple[Source, Any]]:
    """Yield tokens by form, counted from the front; the last one of a form is also `-1`.

    Two that stand side by side are one more: a street and its number.
    """
    seen: dict[str, int] = {}
    before: re.Match[str] | None = None
    for match in TOKEN.finditer(text):
        token = match[0].strip('"')
        together = before is not None and text[before.end() : match.start()] == " "
        found = [f"{before[0]} {token}"] if before is not None and together else []
        if not (token.isalpha() and _OPENING.search(text, 0, match.start())):
            found.append(token)  # a capital letter that only begins a sentence names nothing
        for each in found:
            shape = form(each)
            seen[shape] = seen.get(shape, -1) + 1
            yield Source(kind, f"{shape}@{seen[shape]}"), each
            yield Source(kind, f"{shape}@-1"), each
        before = match


_ORDER = ("result", "now", "fact", "said", "before", "fixed")


def rank(source: Source) -> tuple[int, str]:
    """Return the order in which sources of one value are trusted, the most specific first."""
    return _ORDER.index(source.kind), source.key


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def same(one: Any, other: Any) -> bool:
    """Say whether two values read the same."""
    return _plain(one) == _plain(other)


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


def _apart(dates: Sequence[tuple[str, date]]) -> Iterator[str]:
    """Yield how the first few dates lie to each other: which is later, and roughly by how much."""
    near = sorted(dates, key=lambda item: (item[0].count("/"), item[0]))[:_DATES]
    for (one, first), (other, second) in combinations(near, 2):
        apart = (second - first).days
        sign = "after" if apart > 0 else "before" if apart < 0 else "on"
        step = sum(abs(apart) > edge for edge in _DAYS)
        yield from (_word(f"{other}_{sign}_{one}"), _word(f"{other}_{sign}_{one}_{step}"))


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text)


def _is_state(value: Any) -> bool:
    return isinstance(value, bool) or bool(re.fullmatch(r"[a-z][a-z _-]{1,24}", value))
