"""Select and export many calls with the command itself: seconds and memory at two sizes.

The calls are the support desk's own, made once by the agent and multiplied in the database; what
is measured runs in a fresh process each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000)


def run(most: int) -> Iterator[dict[str, Any]]:
    """Yield one result per command and size, up to `most` calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for calls in sorted({min(size, most) for size in SIZES}):
            url = f"sqlite:///{folder}/{calls}.db"
            _apart(url, str(calls))  # a process of its own: a child starts at its size
            for command, more in (("select", ()), ("export", (str(folder / "train.jsonl"),))):
                yield {"command": command, **_measured(command, *more, "--db", url)}


def _measured(command: str, *more: str) -> dict[str, Any]:
    """Run `agentmesh distill COMMAND` and return its calls, seconds and peak of memory."""
    arguments = [sys.executable, "-m", "agentmesh", "distill", command, *more, "--json"]
    if command == "export":
        arguments += ["--permission", "the owner of these calls"]
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = json.loads(child.stdout.read())
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if child.returncode:
        sys.exit(f"agentmesh distill {command} failed")
    chosen = told["reasons"].values() if command == "export" else (row["calls"] for row in told)
    return {
        "calls": sum(chosen),
        "seconds": seconds,
        "processor s": usage.ru_utime + usage.ru_stime,
        "peak MB": usage.ru_maxrss / 1_024,
    }


def _apart(*arguments: str) -> None:
    module = [sys.executable, "-m", "benchmarks.distill.many"]
    subprocess.run([*module, *arguments], check=True)
