"""Print the router's table: `python -m benchmarks.routing`, or `python benchmarks/routing`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

from benchmarks.routing.figure import Data, Figure  # path set above
from benchmarks.routing.measures import MEASURES


def main(arguments: list[str] | None = None) -> int:
    """Run the measures that are asked for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--only", nargs="+", choices=sorted(MEASURES), default=list(MEASURES))
    options = parser.parse_args(arguments)
    data, figures = Data(options.data), []
    for name in options.only:
        begin = time.perf_counter()
        try:
            found = list(MEASURES[name](data))
        except FileNotFoundError as error:
            print(f"{name}: skipped, {error.filename} is not there (--data)", file=sys.stderr)
            continue
        figures += found
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        if not options.json:
            for figure in found:
                print(_line(figure), flush=True)
    if options.json:
        print(json.dumps([{**asdict(f), "reached": f.reached} for f in figures], indent=2))
    return 0


def _line(figure: Figure) -> str:
    value, low, high = (_show(v, figure.unit) for v in (figure.value, figure.low, figure.high))
    target = "–"
    if figure.target is not None:
        sign = "≤" if figure.at_most else "≥"
        target = f"{sign} {_show(figure.target, figure.unit)}"
    verdict = {True: "reached", False: "NOT REACHED", None: ""}[figure.reached]
    return (
        f"{figure.name:<68} {value:>8} [{low}, {high}]  target {target:<9} {verdict:<12}"
        f"| {figure.baseline}"
    )


def _show(value: float, unit: str) -> str:
    digits = 3 if not unit else 1 if unit == "%" else 2
    return f"{value:.{digits}f}{unit}"


if __name__ == "__main__":
    sys.exit(main())
