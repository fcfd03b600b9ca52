"""What has happened so far, read from a request as a model would read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from agentmesh.emulator import Request

_MARKED = re.compile(r"(?:Error: )?<untrusted [^>\n]*>\n(.*)\n</untrusted [^>\n]*>", re.DOTALL)
_ASKED = re.compile(r"^(Look into|Fix it)\b", re.MULTILINE)
_COMMAND = re.compile(r"^Test command: `(.+)`$", re.MULTILINE)
_FRAME = re.compile(r'File "([^"\n]+\.py)", line (\d+)|^(\S+\.py):(\d+): ', re.MULTILINE)
_COUNT = re.compile(r"\b(?:failures|errors)=(\d+)|\b(\d+) (?:failed|errors?)\b")
_NUMBERED = re.compile(r"^ *(\d+)\t(.*)$")
_HIT = re.compile(r"^(.+?):(\d+): (.*)$")
_DEFINED = re.compile(r"\s*(?:async def|def|class) (\w+)")
_CALLED = re.compile(r"(?<![\w.])([a-zA-Z_]\w*)\(|\.([a-zA-Z_]\w*)\(")
_NOT_OURS = frozenset(
    [
        "dict",
        "len",
        "list",
        "print",
        "range",
        "repr",
        "set",
        "sorted",
        "str",
        "sum",
        "super",
        "tuple",
    ]
)
_CRASHED = 1_000_000
UNREAD = "\0"
STRETCH = 100


class Done(NamedTuple):
    """A call that was made, and what came back."""

    name: str
    args: dict[str, Any]
    text: str


class Place(NamedTuple):
    """A line of a file."""

    path: str
    line: int


@dataclass(frozen=True)
class Transcript:
    """A conversation's calls in order, and what they tell of the repository."""

    done: tuple[Done, ...]
    command: str
    to_fix: bool

    @classmethod
    def of(cls, request: Request) -> Transcript:
        """Read a request."""
        results = {m.call_id: m.text for m in request.messages if m.role == "tool"}
        done = tuple(
            Done(call.name, json.loads(call.arguments or "{}"), bare(results.get(call.id, "")))
            for message in request.messages
            for call in message.calls
        )
        said = "\n".join(message.text for message in request.messages if message.role == "user")
        commands = _COMMAND.findall(said)
        asked = _ASKED.findall(said)
        return cls(done, commands[-1] if commands else "", asked[-1:] == ["Fix it"])

    def calls(self, name: str) -> list[Done]:
        """Return the calls of one tool."""
        return [item for item in self.done if item.name == name]

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The files of the repository, as they were listed."""
        rows = [row for item in self.calls("list_files") for row in item.text.splitlines()]
        return tuple(row.rpartition(" ")[0] for row in rows if re.search(r" \d+$", row))

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """The lines of each file that was read, as first read; a line not read is UNREAD."""
        read: dict[str, dict[int, str]] = {}
        for item in self.calls("read_file"):
            lines = read.setdefault(item.args["path"], {})
            for row in item.text.splitlines():
                if match := _NUMBERED.match(row):
                    lines.setdefault(int(match[1]), match[2])
        return {
            path: [lines.get(number, UNREAD) for number in range(1, max(lines, default=0) + 1)]
            for path, lines in read.items()
        }

    def unread(self, places: Iterable[Place]) -> list[Place]:
        """Return the places whose lines were not read yet, one for each stretch of a file."""
        wanted: list[Place] = []
        asked = {(x.args["path"], x.args.get("start", 1)) for x in self.calls("read_file")}
        for place in places:
            lines = self.files.get(place.path, [])
            known = place.line <= len(lines) and lines[place.line - 1] != UNREAD
            near = any(x.path == place.path and 0 <= place.line - x.line < STRETCH for x in wanted)
            if not known and not near and (place.path, first_line(place)) not in asked:
                wanted.append(place)
        return wanted

    @cached_property
    def runs(self) -> list[Done]:
        """The runs of the tests."""
        return [x for x in self.calls("run_command") if x.args.get("command") == self.command]

    @property
    def barred(self) -> bool:
        """Whether the tests could not be run at all: a person refused, or the command is none."""
        return any("[exit status " not in x.text and "[ended: " not in x.text for x in self.runs)

    @cached_property
    def failing(self) -> tuple[Place, ...]:
        """The places that the first run's tracebacks name, in files of the repository."""
        if not self.runs:
            return ()
        found: dict[Place, None] = {}
        for match in _FRAME.finditer(self.runs[0].text):
            shown, line = match[1] or match[3], int(match[2] or match[4])
            fits = (p for p in self.paths if shown == p or shown.endswith(f"/{p}"))
            path = max(fits, key=len, default=None)
            if path:
                found[Place(path, line)] = None
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the failing lines call, assertions left out."""
        found: dict[str, None] = {}
        for place in self.failing:
            for line in self.files.get(place.path, ())[place.line - 1 : place.line]:
                for plain, attribute in _CALLED.findall(line):
                    name = plain or attribute
                    if name not in _NOT_OURS and not name.startswith("assert"):
                        found[name] = None
        return tuple(found)

    @cached_property
    def definitions(self) -> tuple[Place, ...]:
        """Where those names are defined, outside of the tests."""
        found: dict[Place, None] = {}
        for item in self.calls("search_files"):
            for row in item.text.splitlines():
                match = _HIT.match(row)
                if match and not is_test(match[1]) and _DEFINED.match(match[3]):
                    found[Place(match[1], int(match[2]))] = None
        return tuple(found)


def first_line(place: Place) -> int:
    """Return the line from which a place is read: a little before it."""
    return max(place.line - 10, 1)


def is_test(path: str) -> bool:
    """Whether a file holds tests."""
    name = path.rpartition("/")[2]
    return name.startswith("test_") or name.endswith("_test.py") or "/tests/" in f"/{path}"


def failures(text: str) -> int:
    """Return how many tests failed by a run's output; a crash counts as very many."""
    if text.rstrip().endswith("[exit status 0]"):
        return 0
    counts = [int(first or second) for first, second in _COUNT.findall(text)]
    return sum(counts) or _CRASHED


def body(lines: list[str], start: int) -> Iterator[int]:
    """Give the numbers of the lines of the definition that begins at line `start`."""
    if start > len(lines):
        return
    indent = _indent(lines[start - 1])
    yield start
    for number in range(start + 1, len(lines) + 1):
        line = lines[number - 1]
        if line.strip() and _indent(line) <= indent:
            return
        yield number


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def bare(text: str) -> str:
    """Return a result without the tags that mark it as data."""
    match = _MARKED.fullmatch(text)
    return match[1] if match else text
