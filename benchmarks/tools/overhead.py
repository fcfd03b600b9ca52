"""What a tool call and a sandboxed command cost beside LangGraph's ToolNode and a bare command.

Each is run in turn with what it is compared to, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest

from agentmesh.tools import CallContext, Result, keyed, run_call, run_once, to_message, tool
from agentmesh.tools.sandbox import Sandbox
from benchmarks.tools.figure import Figure

PART = "overhead"
CALL_MS, COMMAND_MS = 1.0, 10.0


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


def figures(call: dict[str, Any], command: dict[str, Any]) -> Iterator[Figure]:
    """Return the overheads: medians, and what they are when nothing is in the way."""
    yield _over(
        "a tool call, bounded and journalled, over ToolNode", call, "journalled", "toolnode"
    )
    kind = command["kind"]
    yield _over(f"a command in the sandbox ({kind}), over bare", command, "sandboxed", "bare")


def _over(name: str, times: dict[str, Any], whole: str, bare: str) -> Figure:
    over = {key: times[whole][key] - times[bare][key] for key in ("median", "p10")}
    target = CALL_MS if whole == "journalled" else COMMAND_MS
    note = f"{times[bare]['median']:.2f} ms without; p10 {over['p10']:.2f} ms"
    return Figure(PART, name, over["median"], target, unit=" ms", note=note)
