"""Files of JSON as a stream of values, in bounded memory: lines, an array, or one object.

A line that cannot be read is passed on as a `Broken` value, so that one truncated record does not
hide all the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from agentmesh.errors import InputError

CHUNK_CHARS = 1 << 18
MAX_RECORD_CHARS = 64 << 20
"""A single record that is longer than this is not read."""

_SPACE = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_STREAMED = frozenset({"simulations", "runs", "data", "results", "conversations", "resourceSpans"})
"""Members of one big object whose elements are records."""


class Document(NamedTuple):
    """A value and where it stands: its line, or its number within the file."""

    where: str
    value: Any


class Broken(NamedTuple):
    """A record that is not JSON."""

    where: str
    why: str


def documents(
    path: Path, progress: Callable[[int], None] = lambda _bytes: None
) -> Iterator[Document | Broken]:
    """Yield a file's records; `progress` is told how many bytes have been read.

    Raises:
        InputError: the file cannot be read at all.
    """
    try:
        with path.open("rb") as raw:
            first = raw.readline(MAX_RECORD_CHARS)
            raw.seek(0)
            if _is_line(first):
                yield from _lines(raw, path.name, progress)
            else:
                yield from _stream(raw, path.name, progress)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be read: {error.strerror}", hint="check the path"
        ) from error


def _is_line(first: bytes) -> bool:
    """Say whether a file's first line is a whole record, so that its lines are records."""
    text = first.strip()
    if not text.startswith(b"{"):
        return False
    try:
        json.loads(text)
    except ValueError:
        # one object over many lines begins with little more than its bracket
        return len(text) > 2 and first.endswith(b"\n") and not text.endswith((b"[", b"{", b","))
    return True


def _lines(
    raw: IO[bytes], name: str, progress: Callable[[int], None]
) -> Iterator[Document | Broken]:
    done = 0
    for number, line in enumerate(raw, 1):
        done += len(line)
        if line.isspace():
            continue
        try:
            yield Document(f"{name}:{number}", json.loads(line))
        except ValueError as error:
            cut = "" if line.endswith(b"\n") else ", the file ends in the middle of a record"
            yield Broken(f"{name}:{number}", f"not JSON{cut} ({error})")
        progress(done)
    progress(done)


class _Buffer:
    """A window over a file's text that grows until a value fits, and moves on behind it."""

    def __init__(self, raw: IO[bytes], progress: Callable[[int], None]) -> None:
        self._raw = raw
        self._progress = progress
        self._rest = b""
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        want = max(CHUNK_CHARS, len(self.text) - self.at)  # doubles, so that long values are cheap
        chunk = self._raw.read(want)
        self._progress(self._raw.tell())
        whole = self._rest + chunk
        cut = len(whole)
        while cut > len(whole) - 4 and cut > 0 and whole[cut - 1] & 0xC0 == 0x80:
            cut -= 1
        if chunk and cut > 0 and whole[cut - 1] >= 0xC0:
            cut -= 1
        elif chunk:
            cut = len(whole)
        self.text = self.text[self.at :] + whole[:cut].decode("utf-8", "replace")
        self._rest, self.at = whole[cut:], 0
        self.ended = not chunk
        return bool(chunk)

    def peek(self) -> str:
        """Return the next character that is no space or comma ("" at the end)."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """Return the next value; ValueError if there is none."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if len(self.text) - self.at > MAX_RECORD_CHARS or not self.more():
                    raise
                continue
            if end == len(self.text) and not isinstance(found, dict | list | str) and self.more():
                continue  # a number may go on behind the window
            self.at = end
            return found


def _stream(
    raw: IO[bytes], name: str, progress: Callable[[int], None]
) -> Iterator[Document | Broken]:
    buffer = _Buffer(raw, progress)
    number = 0
    try:
        while opening := buffer.peek():  # some tracers write one object after another
            number += 1
            where = name if number == 1 else f"{name}#{number}"
            if opening not in "[{":
                yield Broken(where, "not JSON")
                return
            buffer.at += 1
            yield from _elements(buffer, where) if opening == "[" else _members(buffer, where)
    except ValueError as error:
        cut = ", the file ends in the middle of a record" if buffer.ended else ""
        yield Broken(name, f"not JSON{cut} ({error})")


def _elements(buffer: _Buffer, name: str) -> Iterator[Document]:
    number = 0
    while (character := buffer.peek()) and character != "]":
        number += 1
        yield Document(f"{name}#{number}", buffer.value())
    if not character:
        raise ValueError("the array has no end")
    buffer.at += 1


def _members(buffer: _Buffer, name: str) -> Iterator[Document]:
    """Yield the records inside one object, or the object itself if it is one."""
    rest: dict[str, Any] = {}
    streamed = False
    while (character := buffer.peek()) and character != "}":
        key = buffer.value()
        if buffer.peek() != ":":
            raise ValueError("a member without a value")
        buffer.at += 1
        if key in _STREAMED and buffer.peek() == "[":
            buffer.at += 1
            streamed = True
            for where, value in _elements(buffer, name):
                yield Document(where, _inside(key, value, rest))
        else:
            rest[key] = buffer.value()
    if not character:
        raise ValueError("the object has no end")
    buffer.at += 1
    if not streamed:
        yield Document(name, rest)


def _inside(key: str, value: Any, rest: dict[str, Any]) -> Any:
    """Return an element with what its file says of all of them, where that matters."""
    if key == "resourceSpans":
        return {key: [value]}
    if key == "simulations" and isinstance(value, dict):
        agent = (rest.get("info") or {}).get("agent_info") or {}
        return {"model": agent.get("llm"), **value}
    return value
