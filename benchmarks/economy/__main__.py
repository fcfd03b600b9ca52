"""`python -m benchmarks.economy [MEASURE...]`: the measures of the cache economy and their targets."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.economy.bills import bill
from benchmarks.economy.budget import checks
from benchmarks.economy.fuzz import fuzz
from benchmarks.economy.overhead import overhead
from benchmarks.economy.peer import compare, missing
from benchmarks.economy.recorded import load
from benchmarks.economy.speed import audit_once, repeat, write_requests
from benchmarks.economy.targets import Line, lines
from benchmarks.ledger.run import compare as compare_ledger

DATA = Path(__file__).parents[3] / "shared" / "data"
MODELS = ("anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai:gpt-4.1")
MEASURES = ("overhead", "bills", "peer", "speed", "fuzz", "budget", "ledger")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.economy", description=__doc__)
    parser.add_argument("measures", nargs="*", default=[], help=f"of {', '.join(MEASURES)}")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder with recorded conversations"
    )
    parser.add_argument("--plans", type=int, default=100_000, help="how many plans are fuzzed")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzz")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the audited logs")
    parser.add_argument(
        "--quick", action="store_true", help="compare with the peer on few conversations"
    )
    parser.add_argument("--calls", type=int, default=10_000, help="how many the ledger is held to")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    wanted = given.measures or list(MEASURES)
    unknown = sorted({*wanted} - {*MEASURES})
    if unknown:
        parser.error(f"{unknown[0]!r} is no measure: choose from {', '.join(MEASURES)}")
    folder: Path = given.data / "conversations"
    found: dict[str, Any] = {}
    for measure in wanted:
        if measure in ("bills", "peer", "speed") and not folder.is_dir():
            print(f"skipping {measure}: no recorded conversations in {folder}", file=sys.stderr)
        elif measure == "overhead":
            found[measure] = overhead()
        elif measure == "budget":
            found[measure] = checks()
        elif measure == "ledger":
            found[measure] = _ledger(given.calls, given.seed)
        elif measure == "bills":
            found[measure] = _bills(folder)
        elif measure == "peer" and missing():
            print("skipping peer: pip install langchain langchain-anthropic", file=sys.stderr)
        elif measure == "peer":
            files = sorted(folder.glob("airline_*.jsonl"))
            found[measure] = compare(files, folder / "airline_tools.json", quick=given.quick)
        elif measure == "speed":
            found[measure] = _speed(folder, given.megabytes)
        else:
            found[measure] = fuzz(given.plans, given.seed)
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    shown = list(lines(found))
    _print(shown)
    return 0 if all(line.met for line in shown) else 1


def _print(shown: list[Line]) -> None:
    table = Table("what", "figure", "target", "", box=None, pad_edge=False)
    for line in shown:
        met = ("met" if line.met else "MISSED") if line.target else ""
        table.add_row(line.what, line.figure, line.target, met)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _ledger(calls: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "ledger.db"
        return compare_ledger(calls, seed=seed, workers=4, database=database).as_dict()


def _bills(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for desk in ("airline", "telecom"):
        files = sorted(folder.glob(f"{desk}_*.jsonl"))
        conversations = [c for file in files for c in load(file, folder / f"{desk}_tools.json")]
        rows += [{"desk": desk, **bill(conversations, model, 4)} for model in MODELS]
    return rows


def _speed(folder: Path, megabytes: int) -> dict[str, Any]:
    sources = sorted(folder.glob("*.jsonl"))
    with tempfile.TemporaryDirectory() as place:
        requests, conversations = (
            Path(place) / "requests.jsonl",
            Path(place) / "conversations.jsonl",
        )
        small = Path(place) / "small.jsonl"
        write_requests(sources, requests, megabytes)
        write_requests(sources, small, max(1, megabytes // 5))
        repeat(sources, conversations, megabytes)
        return {
            "requests": audit_once(requests),
            "requests_fifth": audit_once(small),
            "conversations": audit_once(conversations),
        }


if __name__ == "__main__":
    sys.exit(main())
