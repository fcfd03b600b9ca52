"""Students of the first kind on real models' conversations: the next action and its arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentmesh.distill.local import LocalStudent
from agentmesh.distill.loop import measure
from agentmesh.distill.traces import Trace, conversation_traces
from benchmarks.distill.data import rows

FILES = {
    "airline": ("claude-opus-4-6", "claude-sonnet-4-5", "gpt-4o", "gpt-oss-120b"),
    "telecom": ("gpt-4.1", "gpt-4.1-sft"),
}


def run(data: Path) -> Iterator[dict[str, Any]]:
    """Yield one result per desk: trained on three tasks of four, measured on the fourth."""
    for desk, models in FILES.items():
        tools = json.loads((data / f"conversations/{desk}_tools.json").read_text(encoding="utf-8"))
        files = [list(rows(f"conversations/{desk}_{model}", data)) for model in models]
        solved = [row for file in files for row in file if row["reward"]]
        tasks = sorted({str(row["task"]) for row in solved})
        train: list[Trace] = []
        held: list[Trace] = []
        groups: list[str] = []
        for row in solved:
            traces = [t for t in conversation_traces(row, tools) if not t.outcome.errors]
            if tasks.index(str(row["task"])) % 4 == 3:
                held += traces
            else:
                train += traces
                groups += [str(row["task"])] * len(traces)
        for agreement in (0.95, 0.8):
            student = LocalStudent.fit(train, agreement=agreement, groups=groups)
            found = measure(student, held)
            calls = measure(student, [t for t in held if t.action != "say"])
            yield {
                "desk": desk,
                "calls learned from": len(train),
                "held out": len(held),
                "agreement asked": agreement,
                "answered": found.answered,
                "agreement": found.agreement,
                "tool calls answered": calls.answered,
                "agreement on tool calls": calls.agreement,
                "ms": found.latency_ms,
            }
