"""Print the tools' measures: what they cost, and what gets past them.

    python -m benchmarks.tools [overhead] [escapes] [injection] [kills] [coding] [changing]
        [--json]

All parts without a name, in some minutes; `coding` needs recorded steps, by --data. Each row has
its target and whether it is reached; how far the run is stands on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tools import changing, coding, escapes, injection, kills, overhead
from benchmarks.tools.figure import Figure, tell


class Part(NamedTuple):
    """What a part has measured: rows of the table, lines below it, and all of it."""

    figures: list[Figure]
    lines: list[str]
    measured: Any


def _overhead(given: argparse.Namespace) -> Part:
    call, command = overhead.calls(given.calls), overhead.commands(given.commands)
    lines = [
        f"not confined {where}: {what}"
        for where, key in (
            ("by the sandbox", "cannot"),
            ("without bubblewrap", "restricted_cannot"),
        )
        for what in command[key]
    ]
    figures = list(overhead.figures(call, command))
    return Part(figures, lines, {"call": call, "command": command})


def _escapes(given: argparse.Namespace) -> Part:
    found = escapes.escapes()
    return Part(list(escapes.figures(found)), [], found)


def _injection(given: argparse.Namespace) -> Part:
    found = injection.measure()
    return Part(list(injection.figures(found)), [], found)


def _kills(given: argparse.Namespace) -> Part:
    rows = kills.measure(given.kills, given.peer_kills)
    return Part(list(kills.figures(rows, given.kills)), [], rows)


def _coding(given: argparse.Namespace) -> Part:
    found = coding.measure(given.data, given.steps)
    return Part(list(coding.figures(found)), coding.lines(found), found)


def _changing(given: argparse.Namespace) -> Part:
    found = changing.measure()
    return Part(list(changing.figures(found)), changing.lines(found), found)


PARTS: dict[str, Callable[[argparse.Namespace], Part]] = {
    "overhead": _overhead,
    "escapes": _escapes,
    "injection": _injection,
    "kills": _kills,
    "coding": _coding,
    "changing": _changing,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tools", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--calls", type=int, default=300, help="calls of each kind")
    parser.add_argument("--commands", type=int, default=60, help="commands of each kind")
    parser.add_argument("--kills", type=int, default=200, help="turns to kill")
    parser.add_argument("--peer-kills", type=int, default=50, help="turns to kill of LangGraph's")
    parser.add_argument("--data", type=Path, default=coding.DATA, help="folder of recorded steps")
    parser.add_argument("--steps", type=int, default=coding.STEPS, help="of the coding session")
    given = parser.parse_args()
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"unknown part {unknown[0]!r}: {', '.join(PARTS)}")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    measured: dict[str, Any] = {"machine": machine, "load": round(os.getloadavg()[0], 1)}
    if not given.json:
        print(f"{machine}, load {measured['load']}\n", flush=True)
    for name in given.parts or PARTS:
        tell(f"{name} ...")
        begun = time.monotonic()
        try:
            part = PARTS[name](given)
        except FileNotFoundError as error:
            tell(f"{name}: skipped, there is no {error.filename} (--data)")
            continue
        tell(f"{name}: {time.monotonic() - begun:.0f} s")
        rows = [{**asdict(f), "reached": f.reached, "command": f.command} for f in part.figures]
        measured[name] = {"figures": rows, "measured": part.measured}
        if not given.json:
            heading = f"{part.figures[0].command}"
            print("\n".join([heading, *(f"  {f.line}" for f in part.figures)]))
            print("\n".join([*(f"    {line}" for line in part.lines), ""]), flush=True)
    if given.json:
        print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
