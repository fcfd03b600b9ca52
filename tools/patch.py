"""Unified diffs, applied exactly or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from agentmesh.errors import InputError

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NOTHING = "/dev/null"
_NO_NEWLINE = "\\ No newline at end of file"
_HINT = "read the file again and make the patch from what it holds now"


@dataclass(slots=True)
class Hunk:
    """Lines to find (`old`) and to put in their place (`new`), near line `start`."""

    start: int
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass(slots=True)
class FilePatch:
    """The hunks of one file; a path that is None stands for no file."""

    source: str | None
    target: str | None
    hunks: list[Hunk] = field(default_factory=list)


def parse(text: str) -> list[FilePatch]:
    """Return the files of a unified diff, with or without git's own lines."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[-1]:
        lines.pop()
    patches: list[FilePatch] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            patches.append(FilePatch(_path(line[4:], "a/"), _path(lines[at + 1][4:], "b/")))
            at += 2
        elif match := _HUNK.match(line):
            if not patches:
                raise InputError("the patch names no file", hint="begin it with --- and +++ lines")
            hunk, at = _hunk(lines, at, match)
            patches[-1].hunks.append(hunk)
        elif line.startswith(("rename from ", "copy from ", "GIT binary patch", "Binary files ")):
            raise InputError(f"a patch cannot do {line[:40]!r}", hint="use the move or write tool")
        else:
            at += 1
    if not patches or not all(patch.hunks for patch in patches):
        raise InputError("the patch holds no hunks", hint="send a unified diff with @@ lines")
    return patches


def _path(shown: str, prefix: str) -> str | None:
    path = shown.split("\t")[0].strip()
    if path == _NOTHING:
        return None
    return path.removeprefix(prefix)


def _hunk(lines: list[str], at: int, match: re.Match[str]) -> tuple[Hunk, int]:
    """Return the hunk whose head stands at line `at`, and where the next line to read is."""
    olds = int(match[2]) if match[2] is not None else 1
    news = int(match[4]) if match[4] is not None else 1
    hunk = Hunk(int(match[1]))
    at += 1
    last: list[list[str]] = []
    while at < len(lines) and (
        len(hunk.old) < olds or len(hunk.new) < news or lines[at].startswith("\\")
    ):
        line = lines[at]
        if line == _NO_NEWLINE:
            for side in last:
                side[-1] = side[-1].removesuffix("\n")
        elif line[:1] in {" ", ""}:
            last = [hunk.old, hunk.new]
            for side in last:
                side.append(line[1:] + "\n")
        elif line[0] in "-+":
            last = [hunk.old if line[0] == "-" else hunk.new]
            last[0].append(line[1:] + "\n")
        else:
            break
        at += 1
    if (len(hunk.old), len(hunk.new)) != (olds, news):
        raise InputError(
            f"the hunk {match[0]!r} holds {len(hunk.old)} old and {len(hunk.new)} new lines",
            hint="count its lines again",
        )
    return hunk, at


def applied(text: str, read: Callable[[str], str | None]) -> dict[str, str | None]:
    """Return the new content of every file that the patch `text` touches (None: removed).

    `read` gives a file's content now, or None if there is no such file.
    """
    results: dict[str, str | None] = {}
    for patch in parse(text):
        path = patch.target or patch.source
        if path is None or (patch.source and patch.target and patch.source != patch.target):
            raise InputError("a patch cannot rename", hint="use the move tool, then patch")
        before = results[path] if path in results else read(path)
        if patch.source is None and before is not None:
            raise InputError(f"{path!r} exists already", hint=_HINT)
        if patch.source is not None and before is None:
            raise InputError(f"{path!r} does not exist", hint=_HINT)
        after = _patched(path, before or "", patch.hunks)
        if patch.target is None and after:
            raise InputError(f"{path!r} holds more than the patch removes", hint=_HINT)
        results[path] = None if patch.target is None else after
    return results


def _patched(path: str, text: str, hunks: list[Hunk]) -> str:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    windows = sum(line.endswith("\r\n") for line in lines) * 2 > len(lines)
    done: list[str] = []
    at = 0
    for hunk in hunks:
        old, new = (_endings(side, windows=windows) for side in (hunk.old, hunk.new))
        found = _find(lines, old, at, hunk.start - 1 if old else hunk.start)
        if found is None:
            raise InputError(f"a hunk at line {hunk.start} does not fit {path!r}", hint=_HINT)
        done += lines[at:found] + new
        at = found + len(old)
    return "".join(done + lines[at:])


def _endings(lines: list[str], *, windows: bool) -> list[str]:
    if not windows:
        return lines
    return [re.sub(r"(?<!\r)\n$", "\r\n", line) for line in lines]


def _find(lines: list[str], old: list[str], first: int, wanted: int) -> int | None:
    """Return where `old` stands at or after `first`, as near to `wanted` as can be."""
    if not old:
        return max(min(wanted, len(lines)), first)
    places = range(first, len(lines) - len(old) + 1)
    fits = (at for at in places if lines[at : at + len(old)] == old)
    return min(fits, key=lambda at: abs(at - wanted), default=None)
