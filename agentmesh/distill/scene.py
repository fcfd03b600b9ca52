"""What a prompt offers to a student that copies: facts, the customer's tokens, tools' results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentmesh.distill.traces import Message

TOKEN = re.compile(
    r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+|#?\w*\d[\w./:-]*\w|#?\d|[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\"[^\"]+\""
)
_FACT = re.compile(r"^([\w][\w.-]*): (.+?)(?: \[[a-z ]+\])?$", re.MULTILINE)
_LEAVES = 400


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

    def sources(self, value: Any) -> tuple[Source, ...]:
        """Return where a value stands in the prompt."""
        return self.places.get(_plain(value), ())

    def text(self) -> str:
        """Return the prompt as a classifier reads it: the words, what was done, what came of it."""
        states = [
            f"got_{s.key}_{v}".replace(" ", "_")
            for s, v in self.values.items()
            if s.kind == "result" and isinstance(v, str | bool) and _is_state(v)
        ]
        marks = [f"did_{name}" for name in self.done] + [f"had_{name}" for name in self.earlier]
        return " ".join([self.asked, f"steps_{len(self.done)}", *marks, *states[:40]])


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
            values.update((Source("fact", m[1]), _value(m[2])) for m in _FACT.finditer(text))
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
    return Scene(asked, tuple(done), tuple(dict.fromkeys(earlier)), values, found)


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


def _is_state(value: Any) -> bool:
    return isinstance(value, bool) or bool(re.fullmatch(r"[a-z][a-z _-]{1,24}", value))
