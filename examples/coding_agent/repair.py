"""Small repairs, tried one after the other: how the stand-in for a flagship edits code.

Every slip of a kind that programmers make (a comparison that is off by one case, a sign, a
number that is off by one) has its opposite. The stand-in tries these at the lines that the
failing tests lead to, keeps what makes fewer tests fail, and takes the rest back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmesh.examples.coding_agent.transcript import (
    UNREAD,
    Done,
    Transcript,
    body,
    failures,
    is_test,
)

_SLIPS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("<=", "<"), (">=", ">"), ("<(?!=)", "<="), (">(?!=)", ">="), ("==", "!="), ("!=", "==")),
    ((r" \+ ", " - "), (" - ", " + "), (r" \* ", " // "), (" // ", " * "), (" // ", " / ")),
    ((" and ", " or "), (" or ", " and "), (r"\bnot ", ""), ("True", "False"), ("False", "True")),
    ((r"\bmin\(", "max("), (r"\bmax\(", "min("), (r"\[0\]", "[-1]"), (r"\[-1\]", "[0]")),
)
_NUMBER = re.compile(r"(?<![\w.])\d{1,6}(?![\w.])")
_SKIPPED = ('"""', "#", "def ", "class ", "import ", "from ", "raise ", "@")


class Edit(NamedTuple):
    """A line to change."""

    path: str
    line: int
    new: str


@dataclass
class State:
    """The repair so far, replayed from the transcript."""

    files: dict[str, list[str]]
    left: int
    pending: Edit | None = None
    before: str = ""
    untested: bool = False
    kept: list[Edit] = field(default_factory=list)
    tried: set[Edit] = field(default_factory=set)


def replay(transcript: Transcript) -> State:
    """Return where the repair stands after all calls that were made."""
    runs = transcript.runs
    state = State({path: list(x) for path, x in transcript.files.items()}, failures(runs[0].text))
    for item in transcript.done[transcript.done.index(runs[0]) + 1 :]:
        if item.name == "edit_file":
            _edited(state, item)
        elif item.name == "run_command" and state.pending and state.untested:
            left = failures(item.text)
            state.untested = False
            if left < state.left:
                state.left = left
                state.kept.append(state.pending)
                state.pending = None
    return state


def _edited(state: State, item: Done) -> None:
    path, old, new = item.args["path"], item.args["old"], item.args["new"]
    lines = state.files[path]
    start = "\n".join(lines).partition(old)[0].count("\n")
    olds, news = old.split("\n"), new.split("\n")
    (at,) = (i for i, (one, two) in enumerate(zip(olds, news, strict=True)) if one != two)
    edit = Edit(path, start + at + 1, news[at])
    if not item.text.startswith("replaced"):
        state.tried.add(edit)
        return
    if state.pending and edit == state.pending._replace(new=state.before):
        state.pending = None
    else:
        state.pending, state.before, state.untested = edit, olds[at], True
        state.tried.add(edit)
    lines[edit.line - 1] = edit.new


def arguments(state: State, edit: Edit) -> dict[str, str]:
    """Return the arguments of `edit_file`: enough lines around the edit to make it unique."""
    lines = state.files[edit.path]
    whole, at = "\n".join(lines), edit.line - 1
    first, last = _wider(lines, at, at)
    while whole.count("\n".join(lines[first : last + 1])) > 1:
        wider = _wider(lines, first, last)
        if wider == (first, last):
            break
        first, last = wider
    return {
        "path": edit.path,
        "old": "\n".join(lines[first : last + 1]),
        "new": "\n".join([*lines[first:at], edit.new, *lines[at + 1 : last + 1]]),
    }


def _wider(lines: list[str], first: int, last: int) -> tuple[int, int]:
    """Return a stretch that is a line longer at both ends, where those lines were read."""
    if first > 0 and lines[first - 1] != UNREAD:
        first -= 1
    if last < len(lines) - 1 and lines[last + 1] != UNREAD:
        last += 1
    return first, last


def candidates(transcript: Transcript) -> Iterator[Edit]:
    """Give the edits to try, the likeliest first: by kind of slip, then by place."""
    places = list(_lines(transcript))
    for kind in range(len(_SLIPS) + 1):
        for path, number in places:
            line = transcript.files[path][number - 1]
            for new in _variants(line, kind):
                yield Edit(path, number, new)


def _lines(transcript: Transcript) -> Iterator[tuple[str, int]]:
    """Give the lines of code to change.

    First those that a traceback names, then what the failing tests call, then the rest that was
    read.
    """
    seen: set[tuple[str, int]] = set()
    files = transcript.files
    called = [
        (place.path, number)
        for place in transcript.definitions
        if place.path in files
        for number in body(files[place.path], place.line)
    ]
    named = [place for place in transcript.failing if not is_test(place.path)]
    sources = [path for path in files if not is_test(path) and path.endswith(".py")]
    rest = [(path, number) for path in sources for number in range(1, len(files[path]) + 1)]
    code = {path: _code(files[path]) for path in files}
    for where in (*named, *called, *rest):
        path, number = where
        line = files[path][number - 1].strip() if number in code.get(path, ()) else ""
        if where not in seen and line != UNREAD and line and not line.startswith(_SKIPPED):
            seen.add(where)
            yield path, number


def _code(lines: list[str]) -> set[int]:
    """Return the numbers of the lines outside of strings that span lines."""
    numbers, within = set(), False
    for number, line in enumerate(lines, 1):
        marks = line.count('"""') + line.count("'''")
        if line == UNREAD:
            within = False
        elif not within and not marks:
            numbers.add(number)
        within ^= bool(marks % 2)
    return numbers


def _variants(line: str, kind: int) -> Iterator[str]:
    code = line.partition("#")[0]
    if kind == len(_SLIPS):
        for match in _NUMBER.finditer(code):
            for number in (int(match[0]) - 1, int(match[0]) + 1):
                if number >= 0:
                    yield line[: match.start()] + str(number) + line[match.end() :]
        return
    for pattern, other in _SLIPS[kind]:
        for match in re.finditer(pattern, code):
            yield line[: match.start()] + other + line[match.end() :]
