"""`python -m benchmarks.ledger`: the ledger against the vendors' own bills, to the micro-dollar."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.ledger.run import Found, compare


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="how many requests are billed")
    parser.add_argument("--workers", type=int, default=4, help="how many keys call in parallel")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if given.calls < 1 or not 1 <= given.workers <= 64:
        parser.error("give at least 1 call and 1 to 64 workers")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = compare(
            given.calls,
            seed=given.seed,
            workers=given.workers,
            database=Path(place) / "ledger.db",
        )
    seconds = time.perf_counter() - began
    if given.json:
        print(json.dumps({**found.as_dict(), "seconds": round(seconds, 1)}, indent=2))
    else:
        _print(found, seconds)
    return 0 if found.agrees else 1


def _print(found: Found, seconds: float) -> None:
    table = Table(title=f"{found.calls:,} calls of the ledger, {seconds:,.0f} s")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in found.as_dict().items():
        shown = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else ""
        table.add_row(name.replace("_", " "), shown or f"{value:,}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
