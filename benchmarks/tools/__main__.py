"""Print the tools' measures: what they cost, and what gets past them.

    python -m benchmarks.tools [overhead] [escapes] [injection] [kills] [coding] [--json]

All parts without a name; `coding` needs recorded steps, by --data. Overheads are measured in turn with what they are compared to, so that a busy machine slows
all alike: medians, and beside them the tenth percentile, what it takes when nothing is in the way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest

from agentmesh.tools import CallContext, Result, keyed, run_call, run_once, to_message, tool
from agentmesh.tools.sandbox import Sandbox
from benchmarks.tools import coding, injection, kills

HERE = Path(__file__).parents[2]
TESTS = {
    "workspace": ("tests/tools/test_workspace_escapes.py", ""),
    "sandbox": ("tests/tools/test_sandbox_escapes.py", "no_attempt or survives or every_limit"),
    "fetch guard": ("tests/tools/test_fetch_guard.py", "leads_inside"),
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class _Rows:
    """A journal in memory, so that the measure is of the tools and not of a database."""

    def __init__(self) -> None:
        self.rows: dict[str, Result] = {}

    def intent(self, key: str, tool: str, args: str) -> Any:
        return self.rows.get(key, "new")

    def result(self, key: str, result: Result) -> None:
        self.rows[key] = result

    def reconcile(self, key: str) -> Result | None:
        return None


def timed(number: int, **works: Callable[[int], object]) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each work, run in turn `number` times."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for at in range(number + 3):
        for name, work in works.items():
            began = time.perf_counter()
            work(at)
            if at >= 3:
                times[name].append((time.perf_counter() - began) * 1000)
    return {
        name: {"median": statistics.median(kept), "p10": sorted(kept)[len(kept) // 10]}
        for name, kept in times.items()
    }


def calls(number: int) -> dict[str, dict[str, float]]:
    """Return what a call through LangGraph's ToolNode costs bare, and bounded and journalled."""
    journal = _Rows()

    def wrap(request: ToolCallRequest, execute: Callable[..., Any]) -> Any:
        args, call_id = request.tool_call["args"], str(request.tool_call["id"])
        context = keyed(add, args, CallContext(session="s"))
        result = run_once(
            add, args, context, journal, lambda: run_call(add, call_id, args, context)
        )
        return to_message(result, call_id, add.name)

    plain = _graph(ToolNode([add]))
    ours = _graph(ToolNode([add], wrap_tool_call=wrap))

    def asked(at: int) -> dict[str, Any]:
        call = {"name": "add", "args": {"a": at, "b": 1}, "id": f"c{at}", "type": "tool_call"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    return timed(
        number,
        toolnode=lambda at: plain.invoke(asked(at)),
        journalled=lambda at: ours.invoke(asked(at)),
    )


def _graph(node: ToolNode) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", node)
    graph.add_edge(START, "tools")
    return graph.compile()


def commands(number: int) -> dict[str, Any]:
    """Return what a command costs bare, in the sandbox, and restricted."""
    with tempfile.TemporaryDirectory() as folder:
        confined, restricted = Sandbox(Path(folder)), Sandbox(Path(folder), bubblewrap=False)
        kind = confined.confinement.kind
        bare = ["/bin/sh", "-c", "true"]
        times = timed(
            number,
            bare=lambda at: subprocess.run(bare, capture_output=True, check=True),
            sandboxed=lambda at: confined.run("true"),
            restricted=lambda at: restricted.run("true"),
        )
        return {
            "kind": kind,
            **times,
            "cannot": list(confined.confinement.cannot),
            "restricted_cannot": list(restricted.confinement.cannot),
        }


def escapes() -> dict[str, dict[str, int]]:
    """Return how many escapes were tried and how many were stopped, by running their tests."""
    found = {}
    for name, (path, chosen) in TESTS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            line = [sys.executable, "-m", "pytest", "-q", path, f"--junitxml={report}"]
            line += ["-p", "no:cacheprovider", *(["-k", chosen] if chosen else [])]
            environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            subprocess.run(line, cwd=HERE, env=environment, capture_output=True, check=False)
            suite = xml.parse(report).getroot().find("testsuite")
            assert suite is not None
            counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors")}
            skipped = int(suite.get("skipped", 0))
        tried = counts["tests"] - skipped
        stopped = tried - counts["failures"] - counts["errors"]
        found[name] = {"tried": tried, "stopped": stopped, "skipped": skipped}
    return found


PARTS = ("overhead", "escapes", "injection", "kills", "coding")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tools", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--calls", type=int, default=300, help="calls of each kind")
    parser.add_argument("--commands", type=int, default=60, help="commands of each kind")
    parser.add_argument("--kills", type=int, default=200, help="turns to kill")
    parser.add_argument("--data", type=Path, default=coding.DATA, help="folder of recorded steps")
    parser.add_argument("--steps", type=int, default=coding.STEPS, help="of the coding session")
    given = parser.parse_args()
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"unknown part {unknown[0]!r}: {', '.join(PARTS)}")
    parts = given.parts or PARTS
    measured: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
    }
    if "overhead" in parts:
        measured |= {"call": calls(given.calls), "command": commands(given.commands)}
    if "escapes" in parts:
        measured["escapes"] = escapes()
    if "injection" in parts:
        measured["injection"] = injection.measure()
    if "kills" in parts:
        measured["kills"] = kills.measure(given.kills)
    if "coding" in parts:
        measured["coding"] = coding.measure(given.data, given.steps)
    print(json.dumps(measured, indent=2) if given.json else _table(measured))


def _table(measured: dict[str, Any]) -> str:
    rows = [f"{measured['machine']}, load {measured['load']}"]
    if "call" in measured:
        rows += _overheads(measured["call"], measured["command"])
    for name, counts in measured.get("escapes", {}).items():
        label = f"escapes stopped: {name}"
        skipped = f" ({counts['skipped']} skipped)" if counts["skipped"] else ""
        rows.append(f"{label:42}{counts['stopped']:>9} of {counts['tried']}{skipped}")
    if "injection" in measured:
        rows += _injected(measured["injection"])
    rows += [
        f"{row['design']}: {row['kills']} kills (and {row['resumptions_killed']} of resumptions): "
        f"{row['repeated']} repeated, {row['lost']} lost, {row['dangling']} dangling, "
        f"{row['unfinished']} unfinished, {row['unknown_reported']} reported as unknown"
        for row in measured.get("kills", ())
    ]
    if "coding" in measured:
        rows += coding.lines(measured["coding"])
    return "\n".join(rows)


def _overheads(call: dict[str, Any], command: dict[str, Any]) -> list[str]:
    return [
        f"{'milliseconds':42}{'median':>9}{'p10':>9}",
        _row("a tool call by LangGraph's ToolNode", call["toolnode"]),
        _row("  bounded and journalled", call["journalled"]),
        _row("  overhead of all of it", _over(call["journalled"], call["toolnode"])),
        _row("a command, bare", command["bare"]),
        _row(f"  sandboxed ({command['kind']})", command["sandboxed"]),
        _row("  restricted", command["restricted"]),
        _row("  overhead of the sandbox", _over(command["sandboxed"], command["bare"])),
        "not confined by the sandbox:",
        *(f"  - {what}" for what in command["cannot"]),
        "not confined without bubblewrap:",
        *(f"  - {what}" for what in command["restricted_cannot"]),
    ]


def _injected(found: dict[str, Any]) -> list[str]:
    attacked, bare = found["attacked"], found["attacked_undefended"]
    ours, theirs = found["benign"], found["benign_undefended"]
    return [
        (
            f"injected instructions: {found['attacks']} attacks from {found['cases']} cases, obeyed in "
            f"{attacked['obeyed']}: {attacked['forbidden']} forbidden calls "
            f"(undefended: {bare['forbidden']} in {bare['runs']})"
        ),
        (
            f"  tasks without injection solved: {ours['solved']} of {ours['runs']} "
            f"(undefended: {theirs['solved']}), tokens {ours['tokens'] / theirs['tokens']:.3f} times"
        ),
    ]


def _row(label: str, times: dict[str, float]) -> str:
    return f"{label:42}{times['median']:9.2f}{times['p10']:9.2f}"


def _over(whole: dict[str, float], bare: dict[str, float]) -> dict[str, float]:
    return {name: whole[name] - bare[name] for name in whole}


if __name__ == "__main__":
    main()
