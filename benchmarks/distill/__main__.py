"""Run the benchmarks of distillation: `python -m benchmarks.distill [PART ...]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.distill.data import DATA

PARTS = ("loop", "promotion", "leaks", "scale", "actions", "intents")

Rows = Iterable[Mapping[str, Any]]


def main() -> None:
    """Print what was measured, part by part; with --json one line of JSON per table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distill", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public data")
    parser.add_argument("--calls", type=int, default=100_000, help="calls of the part `scale`")
    parser.add_argument("--requests", type=int, default=1_000, help="requests of the part `loop`")
    parser.add_argument("--report", type=Path, help="write the report of the part `loop` here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}: one of {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        for title, rows in _run(part, given):
            _show(title, list(rows), as_json=given.json)


def _run(part: str, given: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    if part == "loop":
        from benchmarks.distill import loop

        yield from loop.run(given.requests, given.report)
    elif part == "promotion":
        yield from _promotion(given.data)
    elif part == "leaks":
        from benchmarks.distill import leaks

        yield "planted leaks found", leaks.planted_set(given.data)
        yield "leaks in the public data as it is split", leaks.public(given.data)
    elif part == "scale":
        from benchmarks.distill import scale

        yield "select and export, each in a fresh process", scale.run(given.calls)
    elif part == "actions":
        from benchmarks.distill import actions

        yield "students on real conversations, tasks held out", actions.run(given.data)
    else:
        from benchmarks.distill import intents

        yield "students of labels", intents.run(given.data)


def _promotion(data: Path) -> Iterator[tuple[str, Rows]]:
    from benchmarks.distill import promotion

    found = promotion.telecom(data)
    told = [f"promoted: {found.promoted}, {found.reason}", *found.flags]
    yield (
        f"telecom gpt-4.1, then fine-tuned; {'; '.join(told)}",
        [
            {
                "measure": m.name,
                "before": m.baseline,
                "after": m.candidate,
                "difference": m.difference.value,
                "low": m.difference.low,
                "high": m.difference.high,
            }
            for m in found.measures
        ],
    )
    yield "an identical candidate, share promoted of 200 resamplings", [promotion.identical(data)]
    yield "canary of 200 runs, baseline 0.9", promotion.canary()
    yield "live for 500 good runs, then slipping", promotion.live()


def _show(title: str, rows: list[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"title": title, "rows": rows}), flush=True)
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(row.get(name, 0)) for name in names))
    Console().print(table)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
