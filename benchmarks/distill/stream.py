"""Select and export many calls: how long it takes, and how much memory."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agentmesh.distill.formats import export
from agentmesh.distill.log import read_traces
from agentmesh.distill.selection import select, to_examples
from agentmesh.distill.terms import check_terms
from agentmesh.economy.usage import Usage
from agentmesh.memory import Call, Core, Memory
from agentmesh.memory.render import marks_text
from agentmesh.prompt import ToolSpec

CORE = Core(
    (ToolSpec("order_status", "Look up an order.", '{"properties":{"order":{"type":"string"}}}'),),
    "You are the support desk of a shop. Be brief and friendly.",
)
TURNS = 5
MODEL = "anthropic:claude-opus-5-5"


def fill(memory: Memory, calls: int) -> None:
    """Write sessions of five turns of two calls each, through the memory's own front door."""
    for s in range(calls // (2 * TURNS)):
        for t in range(TURNS):
            order = f"#W{s * 10 + t}"
            said = [{"type": "text", "text": f"Where is my order {order}?"}]
            turn = memory.open_turn(session=f"s{s}", user=f"u{s % 997}", agent="desk", blocks=said)
            turn.recall(CORE)
            call = {"id": f"c{s}.{t}", "name": "order_status"}
            asked = {"type": "call", **call, "arguments": f'{{"order": "{order}"}}'}
            told = {"type": "text", "text": f"Order {order} was shipped yesterday."}
            for step, block in enumerate((asked, told), 1):
                prompt = turn.prompt(MODEL)
                turn.record(
                    Call(
                        user=turn.user,
                        agent="desk",
                        epoch=turn.epoch.number,
                        turn=turn.number,
                        step=step,
                        tier="flagship",
                        model=MODEL,
                        head=prompt.entries[-1].seq,
                        marks=marks_text(prompt.marks),
                        prompt_sha=turn.sha(prompt),
                        usage=Usage(fresh=100, output=20),
                        cost=1_000,
                        outcome="ok",
                        started_at=0.0,
                        latency_s=0.5,
                    )
                )
                turn.add("assistant", [block], step)
                if step == 1:
                    result = {"type": "result", **call, "text": "shipped", "error": False}
                    turn.add("tool", [result], step)
            turn.finish()


def run(calls: int) -> dict[str, Any]:
    """Return seconds and memory of select and export together."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(f"sqlite:///{folder}/many.db")
        began = time.perf_counter()
        fill(memory, calls)
        filled = time.perf_counter() - began
        before = _peak_mb()
        began, processor = time.perf_counter(), time.process_time()
        reasons: Counter[str] = Counter()
        manifest = export(
            Path(folder) / "train.jsonl",
            to_examples(select(lambda: read_traces(memory, progress=_bar)), reasons),
            terms=check_terms([MODEL], "classifier"),
        )
        seconds = time.perf_counter() - began
        memory.close()
        return {
            "calls": reasons.total(),
            "learned": manifest.learned,
            "select and export s": seconds,
            "processor s": time.process_time() - processor,
            "filling s": filled,
            "memory grew by MB": _peak_mb() - before,
        }


def _bar(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} calls", end="", file=sys.stderr)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
