"""Search in the workspace's files: ripgrep where it is installed, else Python's `re`.

A pattern comes from a model and may take for ever. ripgrep's engine cannot; Python's can, and so
it runs in a process of its own that is ended in time and is given text, never a path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from agentmesh.errors import InputError
from agentmesh.tools.confined import Confined, parts
from agentmesh.tools.programs import find

TIMEOUT_S = 15.0
_MAX_HITS = 200
_MAX_LINE = 300
_MAX_READ = 50_000_000

_MATCHER = """
import json, re, sys
pattern = re.compile(sys.argv[1])
left = int(sys.argv[2])
for row in sys.stdin:
    path, text = json.loads(row)
    for number, line in enumerate(text.split("\\n"), 1):
        if pattern.search(line):
            print(json.dumps([path, number, line[:1000]]))
            left -= 1
            if not left:
                raise SystemExit
"""


class Hit(NamedTuple):
    """A line that matches."""

    path: str
    line: int
    text: str


def search(files: Confined, pattern: str, path: str = ".", glob: str = "") -> list[Hit]:
    """Return the lines that match `pattern` beneath `path`, at most 200, in order of path."""
    if not pattern or "\n" in pattern or "\0" in pattern:
        raise InputError("the pattern is empty or spans lines", hint="search for part of one line")
    found = None if path in {".", ""} else files.look(path)
    single = found is not None and not _is_directory(found)
    if find("rg") and Path("/proc/self/fd").exists() and not single:
        return _with_ripgrep(files, pattern, path, glob)
    return _with_python(files, pattern, path, glob, single=single)


def _is_directory(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o040000


def _with_ripgrep(files: Confined, pattern: str, path: str, glob: str) -> list[Hit]:
    prefix = "" if path in {"", "."} else "/".join(parts(path)) + "/"
    command = [
        *(
            find("rg") or "rg",
            "--no-config",
            "--no-follow",
            "--hidden",
            "--json",
            "--sort=path",
            "--threads=2",
        ),
        *("--max-filesize=5M", "--max-columns=2000", f"--max-count={_MAX_HITS}", "--iglob=!.git"),
        *(["--glob", glob] if glob else []),
        *("--regexp", pattern, "--", "."),
    ]
    with files.directory(path) as fd:
        try:
            done = subprocess.run(
                command,
                cwd=f"/proc/self/fd/{fd}",  # the directory that was walked to, wherever it is now
                env={"LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _slow() from error
    if done.returncode == 2 and not done.stdout.strip():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
        raise InputError(f"the search failed: {said[-1][:200]}", hint="escape the pattern")
    hits: list[Hit] = []
    for row in done.stdout.splitlines():
        event = json.loads(row)
        if event["type"] == "match" and len(hits) < _MAX_HITS:
            at = event["data"]
            name = str(at["path"].get("text", "(a name that is no text)")).removeprefix("./")
            line = str(at["lines"].get("text", "(no text)"))
            hits.append(Hit(prefix + name, at["line_number"], line.rstrip("\r\n")[:_MAX_LINE]))
    return _confirmed(files, hits)


def _confirmed(files: Confined, hits: list[Hit]) -> list[Hit]:
    """Return the hits that the confined files really hold.

    ripgrep opens paths by name: a second name of a file elsewhere, or a link that was swapped in
    while it ran, shows here.
    """
    lines: dict[str, list[str]] = {}
    for path in {hit.path for hit in hits}:
        with suppress(InputError):
            text = files.read(path).data.decode("utf-8", "replace")
            lines[path] = [line.rstrip("\r")[:_MAX_LINE] for line in text.split("\n")]
    return [hit for hit in hits if hit.text in lines.get(hit.path, ())[hit.line - 1 : hit.line]]


def _with_python(files: Confined, pattern: str, path: str, glob: str, *, single: bool) -> list[Hit]:
    rows: list[str] = []
    left = _MAX_READ
    names = [path] if single else [item.path for item in files.walk(path) if item.kind == "file"]
    for name in names:
        if glob and not (fnmatch(name, glob) or fnmatch(name.rpartition("/")[2], glob)):
            continue
        try:
            data = files.read(name).data
        except InputError:
            continue  # too large, or gone
        if b"\0" in data[:8192] or len(data) > left:
            continue
        left -= len(data)
        rows.append(json.dumps([name, data.decode("utf-8", "replace")]) + "\n")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHER, pattern, str(_MAX_HITS)],
            input="".join(rows),
            env={},
            capture_output=True,
            timeout=TIMEOUT_S,
            text=True,
            encoding="utf-8",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _slow() from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [""]
        raise InputError(f"the search failed: {said[-1][:200]}", hint="escape the pattern")
    found = [json.loads(row) for row in done.stdout.splitlines()]
    return [Hit(name, line, text.rstrip("\r")[:_MAX_LINE]) for name, line, text in found]


def _slow() -> InputError:
    return InputError(
        f"the search took more than {TIMEOUT_S:g} s", hint="use a simpler pattern or a folder"
    )
