"""How fast an audit reads: request logs and conversations, and what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def write_requests(sources: list[Path], target: Path, megabytes: int) -> int:
    """Write an OpenAI-style request log of at least that size from recorded conversations.

    Each recorded answer becomes one line with the whole prompt that it was given, as a client
    that logs its requests writes them. Returns the number of lines.
    """
    lines = size = turn = 0
    with target.open("w", encoding="utf-8") as log:
        while size < megabytes * 1_000_000:
            turn += 1
            for source in sources:
                for line in source.open(encoding="utf-8"):
                    row = json.loads(line)
                    for number, message in enumerate(row["messages"]):
                        if message["role"] != "assistant" or number < 2:
                            continue
                        request = {
                            "model": row["model"],
                            "session_id": f"{turn}/{row['id']}",
                            "timestamp": 1_790_000_000 + lines * 3,
                            "messages": [_plain(m) for m in row["messages"][:number]],
                            "response": {"choices": [{"message": _plain(message)}]},
                        }
                        size += log.write(json.dumps(request, ensure_ascii=False) + "\n")
                        lines += 1
                if size >= megabytes * 1_000_000:
                    break
    return lines


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    return {key: message[key] for key in message if key not in ("usage", "cost_usd")}


def repeat(sources: list[Path], target: Path, megabytes: int) -> int:
    """Write recorded conversations again and again, up to at least that size."""
    lines = size = 0
    with target.open("wb") as log:
        while size < megabytes * 1_000_000:
            for source in sources:
                for line in source.read_bytes().splitlines(keepends=True):
                    size += log.write(line)
                    lines += 1
    return lines


def audit_once(path: Path) -> dict[str, Any]:
    """Audit a file in a process of its own; return the speed and the most memory that it took."""
    code = "from benchmarks.economy.speed import timed; timed()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _peak_mb() -> float | None:
    """Return the most memory that this program took; `getrusage` would count its parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return round(found[0] / 1024, 1) if found else None


def timed() -> None:
    """Audit the file that the command line names and print what it took."""
    from agentmesh.audit.audit import Audit

    path = Path(sys.argv[-1])
    warm = Audit()
    warm.assumptions.lines()
    import genai_prices.data_snapshot  # noqa: F401 - loading the price list is no reading

    began, cpu = time.perf_counter(), time.process_time()
    warm.read(path)
    report = warm.report()
    seconds, own = time.perf_counter() - began, time.process_time() - cpu
    print(
        json.dumps(
            {
                "megabytes": round(report.bytes / 1e6, 1),
                "calls": report.calls,
                "seconds": round(seconds, 2),
                "mb_per_s": round(report.bytes / 1e6 / seconds, 1),
                "mb_per_cpu_s": round(report.bytes / 1e6 / own, 1),
                "peak_mb": _peak_mb(),
            }
        )
    )
