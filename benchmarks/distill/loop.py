"""The whole loop on the support desk: taught, measured, promoted, billed, slipping, taken back."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentmesh.examples.customer_support.school import prove


def run(requests: int, report: Path | None) -> Iterator[tuple[str, Iterable[Mapping[str, Any]]]]:
    """Yield the phases of the student's life, what is measured by them, and its audit trail."""
    with tempfile.TemporaryDirectory() as folder:
        proof = prove(Path(folder), requests=requests, progress=_bar)
    if report is not None:
        report.write_text(proof.page(), encoding="utf-8")
    yield "the student's life", [phase.row() for phase in proof.phases]
    yield "the same requests again, by what a step did", proof.phase("again").actions()
    rows = [{"measure": name, "value": value} for name, value in proof.figures().items()]
    told = proof.refused or proof.comparison.reason
    yield f"the loop, {requests} requests; {told}", rows
    keys = ("from", "to", "by", "why")
    yield "the audit trail", [{key: event[key] for key in keys} for event in proof.version.events]


def _bar(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done:,} of {total:,} requests ", end="", file=sys.stderr)
