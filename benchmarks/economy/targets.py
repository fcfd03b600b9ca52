"""What was measured beside what was asked for, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Line(NamedTuple):
    """A measure, its figure, its target, and whether it was met."""

    what: str
    figure: str
    target: str
    met: bool


def lines(found: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the lines of the measures that were taken."""
    if "ledger" in found:
        yield from _ledger(found["ledger"])
    for row in found.get("bills", ()):
        yield from _bill(row)
    if "peer" in found:
        yield from _peer(found["peer"])
    if "overhead" in found:
        row = found["overhead"]
        what = f"planning, prediction, rendering and body at {row['tokens']:,} tokens"
        yield Line(
            what, f"{row['sum_ms']:.2f} ms of CPU, median", "at most 2 ms", row["sum_ms"] <= 2
        )
    for name, row in found.get("speed", {}).items():
        speed, peak = row["mb_per_cpu_s"], row["peak_mb"]  # other work on the machine apart
        memory = "" if peak is None else f", {peak:.0f} MB at most"
        what = f"audit of {row['megabytes']:.0f} MB: {name.replace('_', ' ')}"
        yield Line(
            what,
            f"{speed:.1f} MB/s of CPU, {row['mb_per_s']:.1f} by the clock{memory}",
            "at least 20 MB/s, memory flat",
            speed >= 20,
        )
    if "fuzz" in found:
        row = found["fuzz"]
        yield Line(
            f"{row['plans']:,} fuzzed plans", f"{row['invalid']:,} invalid", "0", not row["invalid"]
        )
    if "budget" in found:
        row = found["budget"]
        what = f"budget check at {row['rows']:,} calls over one at {row['few_rows']:,}"
        figure = f"{row['ratio']:.2f} ({row['check_ms']:.2f} ms)"
        yield Line(what, figure, "flat: at most 1.5", row["ratio"] <= 1.5)


def _ledger(row: Mapping[str, Any]) -> Iterator[Line]:
    what = f"ledger against the emulator's bill, {row['calls']:,} mixed calls"
    apart = row["ledger_micro"] - row["billed_micro"]
    figure = f"{apart:,} micro-dollars apart, {row['rows_that_differ']:,} rows differ"
    yield Line(what, figure, "equal to the micro-dollar", row["agrees"])


def _bill(row: Mapping[str, Any]) -> Iterator[Line]:
    name = f"{row['desk']}, {row['model'].partition(':')[2]}"
    bias, near = row["predicted_bias"], row["predicted_within_5_percent"]
    figure = f"bias {bias:+.2%}, {near:.1%} of calls within 5%"
    met = abs(bias) <= 0.02 and near >= 0.95
    yield Line(f"{name}: predicted against billed", figure, "2%, 95%", met)
    known = row["missed_explained"]
    yield Line(f"{name}: missed tokens with a cause", f"{known:.1%}", "at least 99%", known >= 0.99)
    if row["model"].startswith("anthropic:"):
        over = row["over_limit"]
        target = "at most 1.05" if row["desk"] == "airline" else ""
        met = over <= 1.05 or not target
        yield Line(f"{name}: input bill over the limit", f"{over:.4f}", target, met)
    else:
        share = row["read_share"]
        yield Line(f"{name}: read share", f"{share:.3f}", "at least 0.93", share >= 0.93)


def _peer(row: Mapping[str, Any]) -> Iterator[Line]:
    ours, theirs = row["agents"]
    figure = f"{ours['over_warm_limit']:.4f}, LangChain's {theirs['over_warm_limit']:.4f}"
    what = f"both agents in one run, {row['conversations']:,} conversations: bill over the limit"
    yield Line(what, figure, "below LangChain's", row["ours_over_peer"] < 1)
