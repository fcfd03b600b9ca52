"""What a person sees while the agent works: one line for each call, and what came of it."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from agentmesh.examples.coding_agent.transcript import bare

if TYPE_CHECKING:
    from agentmesh import Part

Show = Callable[[str], None]
"""Told of each line as it happens."""

WIDTH = 110
_CHANGED = 6
_ENDED = re.compile(r"\[(exit status \d+|ended: [^\]\n]+)\]\s*$")
_VERBS: dict[str, Callable[[dict[str, Any]], str]] = {
    "list_files": lambda a: f"list    {a.get('path', '.')}",
    "read_file": lambda a: f"read    {a['path']}{_lines(a)}",
    "search_files": lambda a: f"search  {a['pattern']} in {a.get('glob') or 'all files'}",
    "run_command": lambda a: f"run     {a['command']}",
    "edit_file": lambda a: f"edit    {a['path']}",
    "write_file": lambda a: f"write   {a['path']}",
    "move_file": lambda a: f"move    {a['source']} to {a['target']}",
    "delete_file": lambda a: f"delete  {a['path']}",
    "set_plan": lambda a: f"plan    {a['plan']}",
    "git_commit": lambda a: f"commit  {a['message']}",
}


class Progress:
    """Shows the parts of a streamed turn, in words."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._tier = ""

    def part(self, part: Part) -> None:
        """Show a part, if it tells a person something."""
        if part.kind == "route":
            self._tier = part.text
        elif part.kind == "call":
            self.say(told(part.text, part.value["args"]))
            for line in changed(part.text, part.value["args"]):
                self._below(line)
        elif part.kind == "result":
            if line := outcome(part.value.name, part.text):
                self._below(line)
        elif part.kind == "retract":
            self.say(f"refused {part.text}; a better model takes over")

    def say(self, line: str) -> None:
        """Show a line of the tier that is at work."""
        self._show(f"{self._tier:9} {_cut(line)}")

    def answer(self, text: str) -> None:
        """Show what the agent says in the end, all of it."""
        first, *rest = textwrap.wrap(text, WIDTH - 8) or [""]
        self.say(f"says    {first}")
        for line in rest:
            self._below(line)

    def _below(self, line: str) -> None:
        self._show(f"{'':17} {_cut(line)}")


def told(name: str, args: dict[str, Any]) -> str:
    """Return a call in a few words; one with unexpected arguments as it was made."""
    try:
        return _VERBS[name](args)
    except KeyError:
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})"


def changed(name: str, args: dict[str, Any]) -> Iterator[str]:
    """Give the lines that an edit takes out and puts in."""
    if name != "edit_file" or not {"old", "new"} <= set(args):
        return
    old, new = (str(args[key]).splitlines() for key in ("old", "new"))
    lines = [row for row in difflib.ndiff(old, new) if row[0] in "-+"]
    for row in lines[:_CHANGED]:
        yield f"{row[0]} {row[2:].strip()}"
    if len(lines) > _CHANGED:
        yield f"and {len(lines) - _CHANGED} more lines"


def outcome(name: str, text: str) -> str:
    """Return what a person wants to know of a result; "" where the call said it all."""
    said = bare(text).strip()
    if text.startswith("Error: "):
        return f"failed: {said.removeprefix('Error: ').splitlines()[0]}"
    if name == "search_files":
        return f"{len(said.splitlines())} lines found"
    if name != "run_command" or not (end := _ENDED.search(said)):
        return ""
    lines = said[: end.start()].strip().splitlines()
    return f"{end[1]}: {lines[-1].strip()}" if lines else end[1]


def _lines(args: dict[str, Any]) -> str:
    start, end = args.get("start") or 1, args.get("end")
    if end:
        return f", lines {start} to {end}"
    return f" from line {start} on" if start > 1 else ""


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
