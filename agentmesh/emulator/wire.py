"""What the three APIs share: a parsed request, a reply to write, events to stream."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

from agentmesh.economy.billing import Block, digest, pieces
from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage
from agentmesh.emulator.brain import Answer, Api, Call, Request
from agentmesh.emulator.refusal import Refusal
from agentmesh.prompt import Ttl

IMAGE_TOKENS = 1_500
"""What an image or a document that is not text counts as."""

_CHUNK_CHARS = 64


@dataclass(frozen=True, slots=True)
class Parsed:
    """A request that the vendor accepts: what the brain sees, and what the cache sees."""

    request: Request
    name: str
    blocks: list[Block]
    implicit: Ttl | None
    stream: bool
    silent: bool = False
    with_usage: bool = True


class Event(NamedTuple):
    """One event of a stream; `text` is the model's output that it carries."""

    name: str
    body: dict[str, Any]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with everything that the wire needs; `extra` are fields beside the usual ones."""

    id: str
    model: str
    at: float
    text: str
    calls: tuple[Call, ...]
    reasoning: str
    stop: Literal["end", "tools", "length", "refusal"]
    usage: Usage
    request: Request
    with_usage: bool
    extra: dict[str, Any]
    untold: bool = False


class Dialect(Protocol):
    """One vendor's API: how it reads a request, writes a reply and an error."""

    api: Api
    call_prefix: str
    id_prefix: str

    def parse(self, raw: dict[str, Any], key: str, betas: frozenset[str] = frozenset()) -> Parsed:
        """Return the request, or raise the Refusal that the vendor would answer with.

        `betas` are what Anthropic's header of that name asks for.
        """
        ...

    def body(self, reply: Reply) -> dict[str, Any]:
        """Return the response to a request without a stream."""
        ...

    def events(self, reply: Reply) -> Iterator[Event]:
        """Yield the events of a stream, the terminal one last."""
        ...

    def error(self, refusal: Refusal, request_id: str) -> dict[str, Any]:
        """Return the body of an error response."""
        ...

    def error_event(self, refusal: Refusal) -> Event:
        """Return the event that reports an error in mid-stream."""
        ...

    def encode(self, event: Event) -> bytes:
        """Return an event as it goes over the wire."""
        ...

    def overflow(self, tokens: int, window: int) -> Refusal:
        """Return the refusal of a prompt that is longer than the model's window."""
        ...


class BlockBuilder:
    """Collects a prompt's blocks, cut as the model's cache needs it.

    `settings` are what the vendor's cache key sees beside the blocks, from the first one on.
    """

    def __init__(self, granularity: int, settings: str = "") -> None:
        self.blocks: list[Block] = []
        self._settings = settings
        self._granularity = granularity
        self._position = -1
        self._run = ""

    def add(
        self,
        kind: str,
        text: str,
        *,
        mark: Ttl | None = None,
        run: str = "",
        closes: bool = False,
        tokens: int | None = None,
    ) -> None:
        """Append a block.

        Args:
            kind: what it is and whose, part of its hash.
            text: its text, which is counted and hashed.
            mark: the breakpoint at its end.
            run: blocks in a row with the same run share one position of the lookback.
            closes: whether it ends a message where the vendor may set a breakpoint.
            tokens: its length where the text does not tell it.
        """
        if not self.blocks:
            kind = f"{self._settings} {kind}"
        if not run or run != self._run:
            self._position += 1
        self._run = run
        if tokens is not None:
            self.blocks.append(Block(digest(kind, text), tokens, mark, self._position, closes))
            return
        if self._granularity == 1:
            sha = digest(kind, text)
            self.blocks.append(Block(sha, count(text), mark, self._position, closes))
            return
        cut = pieces(kind, text, granularity=self._granularity, position=self._position)
        if mark or closes:
            cut[-1] = cut[-1]._replace(mark=mark, closes=closes)
        self.blocks.extend(cut)


def compact(value: Any) -> str:
    """Return `value` as JSON without spaces, keys in their own order: their order is content."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def chunks(text: str) -> Iterator[str]:
    """Yield `text` in the pieces that a stream sends."""
    for start in range(0, len(text), _CHUNK_CHARS):
        yield text[start : start + _CHUNK_CHARS]


def output_tokens(text: str, calls: tuple[Call, ...], reasoning: str = "") -> int:
    """Return the tokens of an answer, by the rule of `economy.tokens`."""
    return count(text) + count(reasoning) + sum(count(c.name + c.arguments) for c in calls)


def signature(model: str, text: str) -> str:
    """Return what binds a block of reasoning to the model that wrote it."""
    return base64.b64encode(digest(f"reasoning {model}", text) * 4).decode()


def cut_to(answer: Answer, limit: int | None) -> Answer:
    """Return `answer` as far as `limit` tokens go; what was cut says so."""
    if limit is None:
        return answer
    calls = [
        (name, args if isinstance(args, str) else compact(args)) for name, args in answer.calls
    ]
    left = limit * 4 - len(answer.reasoning)
    if len(answer.text) + sum(len(n) + len(a) + 4 for n, a in calls) <= left:
        return answer
    whole = tuple(Call("", name, args) for name, args in calls)
    if output_tokens(answer.text, whole, answer.reasoning) <= limit:
        return answer
    text = answer.text[: max(0, left)]
    left -= len(text)
    kept: list[tuple[str, str]] = []
    for name, args in calls:
        if left <= len(name):
            break
        kept.append((name, args[: left - len(name)]))
        left -= len(name) + len(args)
    return replace(answer, text=text, calls=tuple(kept), stop="length")
