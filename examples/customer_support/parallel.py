"""Designs side by side, each in a process of its own, so that two cores do the work of two.

A child is this module run as a program; it writes one JSON line for each request that is done
and one for its row. Nothing else is shared.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from agentmesh.economy.usage import Usage
from agentmesh.errors import AgentmeshError
from agentmesh.examples.customer_support.report import Row

_RAISED = re.compile(r"[\w.]+(?:Error|Exception|Interrupt)\b")
"""How the line of a traceback begins that says what was raised."""

MODULE = "agentmesh.examples.customer_support.parallel"


def run_in_processes(
    designs: Sequence[int],
    *,
    requests: int,
    seed: int,
    workers: int,
    tell: Callable[[int], None],
) -> list[Row]:
    """Return the rows of designs (by number), at most `workers` of them at a time.

    `tell` is called in this thread with a design's number for each request that is done.

    Raises:
        AgentmeshError: a child failed; the others are ended.
    """
    waiting = list(designs)
    rows: dict[int, Row] = {}
    told: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    running: dict[int, _Child] = {}
    try:
        while len(rows) < len(designs):
            while waiting and len(running) < workers:
                number = waiting.pop(0)
                running[number] = _Child.start(number, requests, seed, told)
            number, line = told.get()
            if "row" in line:
                rows[number] = _row(line["row"])
            elif "done" in line:
                tell(number)
            else:
                running.pop(number).check(finished=number in rows)
    finally:
        for child in running.values():
            child.end()
    return [rows[number] for number in designs]


@dataclass
class _Child:
    process: subprocess.Popen[str]
    reader: threading.Thread
    errors: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls, number: int, requests: int, seed: int, told: queue.Queue[tuple[int, dict[str, Any]]]
    ) -> _Child:
        command = [sys.executable, "-m", MODULE, str(number), str(requests), str(seed)]
        process = subprocess.Popen(  # noqa: S603  # our own module
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        errors: list[str] = []

        def read(stream: IO[str]) -> None:
            with stream:
                for text in stream:
                    try:
                        told.put((number, json.loads(text)))
                    except ValueError:
                        errors.append(text.strip())
            told.put((number, {}))

        reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
        reader.start()
        return cls(process, reader, errors)

    def check(self, *, finished: bool) -> None:
        """Raise if the child ended without its row."""
        self.reader.join()
        status = self.process.wait()
        if not finished:
            said = [line for line in self.errors if _RAISED.match(line)] or self.errors[-1:]
            raise AgentmeshError(
                f"a design's process ended with status {status}: {''.join(said[-1:])}",
                hint="run it with workers=1 to see where",
            )

    def end(self) -> None:
        """End the child and wait for it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()


def _row(value: dict[str, Any]) -> Row:
    return Row(**{**value, "usage": Usage(**value["usage"])})


def _child(number: int, requests: int, seed: int) -> None:
    from agentmesh.examples.customer_support.demo import DESIGNS, run

    def tell(_name: str, done: int, _whole: int) -> None:
        _write({"done": done})

    report = run([DESIGNS[number]], requests, seed, tell, workers=1)
    _write({"row": asdict(report.rows[0])})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _child(*map(int, sys.argv[1:4]))
