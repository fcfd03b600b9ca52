"""Print what the trace costs each agent: `python -m benchmarks.memory_trace [--json]`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time

from agentmesh.memory.compaction import Compaction
from benchmarks.memory_trace.agents import Run, langchain, ours
from benchmarks.memory_trace.trace import Gaps

QUARTER = Gaps(every=10, long_s=15 * 60)
HALF_HOUR = Gaps(every=5, long_s=30 * 60)
TARGET = 0.55
IDLE_TARGET = 0.80
PACKAGES = ("langchain", "langchain_anthropic")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.memory_trace", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = parser.parse_args()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    began = time.perf_counter()
    runs = {
        "a 15-minute pause every 10 turns": quarter(missing),
        "a 30-minute pause every 5 turns": half_hour(),
    }
    verdicts = judged(runs)
    if chosen.json:
        tables = {title: [run._asdict() for run in rows] for title, rows in runs.items()}
        print(json.dumps({"tables": tables, "ratios": verdicts, "missing": missing}, indent=2))
        return 0
    for title, rows in runs.items():
        print(f"\n40 turns x 6 calls, {title}, claude-opus-5-5 as the emulator bills it")
        print(f"{'agent':44} {'calls':>6} {'input':>8} {'read':>7} {'cost':>9}")
        for run in rows:
            print(
                f"{run.name:44} {run.calls:6} {run.tokens / 1e6:7.2f}M {run.read:7.1%}"
                f" ${run.micro / 1e6:8.3f}  {run.detail}"
            )
    print()
    for name, (value, target) in verdicts.items():
        print(f"{name}: {value:.3f} (target: at most {target})")
    if missing:
        print(
            f"without {', '.join(missing)}: pip install langchain langchain-anthropic",
            file=sys.stderr,
        )
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


def quarter(missing: list[str]) -> list[Run]:
    """Return the trace with few pauses, ours next to LangChain's."""
    theirs = []
    if not missing:
        theirs = [
            langchain("LangChain: summary, caching, memory", QUARTER, account=None),
            langchain("LangChain by default: no account kept", QUARTER, account=4_000),
        ]
    return [
        *theirs,
        ours("ours, never compacting", QUARTER, None),
        ours("ours", QUARTER, Compaction()),
        ours("ours, acting while idle", QUARTER, Compaction(), idle=True),
    ]


def half_hour() -> list[Run]:
    """Return the trace with many long pauses: what acting before the cache is cold saves."""
    return [
        ours("ours, never compacting", HALF_HOUR, None),
        ours("ours, compacting, never idle", HALF_HOUR, Compaction()),
        ours("ours, acting while idle", HALF_HOUR, Compaction(), idle=True),
    ]


def judged(runs: dict[str, list[Run]]) -> dict[str, tuple[float, float]]:
    """Return each measure's value and target."""
    few, many = runs.values()
    found = {}
    if few[0].name.startswith("LangChain"):
        found["ours / LangChain"] = few[-1].micro / few[0].micro, TARGET
    found["acting while idle / never compacting"] = many[-1].micro / many[0].micro, IDLE_TARGET
    return found


if __name__ == "__main__":
    sys.exit(main())
