"""A comparison for people: a table in the terminal, Markdown, and one page of HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agentmesh.distill.evaluate import Comparison, Measure, Run
from agentmesh.distill.plots import bars

if TYPE_CHECKING:
    from rich.table import Table

_HEAD = ("measure", "baseline", "candidate", "difference", "interval")


def table(comparison: Comparison) -> Table:
    """Return the comparison as a table for the terminal."""
    from rich.table import Table

    made = Table(title=_title(comparison), caption="\n".join(_notes(comparison)))
    for i, name in enumerate(_HEAD):
        made.add_column(name, justify="right" if i else "left")
    for measure in comparison.measures:
        made.add_row(*_cells(measure))
    return made


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, the worst cases side by side."""
    lines = [f"# {_title(comparison)}", "", *_notes(comparison), ""]
    lines += [f"| {' | '.join(_HEAD)} |", "|---|" + "---:|" * (len(_HEAD) - 1)]
    lines += [f"| {' | '.join(_cells(measure))} |" for measure in comparison.measures]
    if comparison.worst:
        lines += ["", "## Worst cases", "", "| task | baseline | candidate |", "|---|---|---|"]
        lines += [
            f"| {_escape(a.task)} | {_escape(_case(a))} | {_escape(_case(b))} |"
            for a, b in comparison.worst
        ]
    return "\n".join(lines) + "\n"


def page(comparison: Comparison, *, pictures: Sequence[str] = ()) -> str:
    """Return the comparison as a page of HTML that needs nothing else; intervals are drawn.

    Args:
        comparison: what is told.
        pictures: more of it, from `agentmesh.distill.plots`.
    """
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(c)}</td>" for c in _cells(m))
        + f"<td>{_bar(m)}</td></tr>"
        for m in comparison.measures
    )
    worst = "".join(
        f"<tr><td>{html.escape(a.task)}</td><td>{html.escape(_case(a))}</td>"
        f"<td>{html.escape(_case(b))}</td></tr>"
        for a, b in comparison.worst
    )
    head = "".join(f"<th>{name}</th>" for name in (*_HEAD, "worse | better"))
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in _notes(comparison))
    cases = (
        f"<h2>Worst cases</h2><table class='cases'><tr><th>task</th><th>baseline</th><th>candidate</th></tr>"
        f"{worst}</table>"
        if worst
        else ""
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(_title(comparison))}</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:60em}"
        "table{border-collapse:collapse}td,th{padding:.3em .7em;border-bottom:1px solid #ccc;"
        "text-align:right}td:first-child,th:first-child,.cases td,.cases th{text-align:left}</style>"
        f"<h1>{html.escape(_title(comparison))}</h1>{notes}"
        f"<table><tr>{head}</tr>{rows}</table>{''.join([*_bars(comparison), *pictures])}{cases}</html>\n"
    )


def _bars(comparison: Comparison) -> Iterator[str]:
    for measure in comparison.measures:
        if measure.name == "dollars per solved task":
            values = {"baseline": measure.baseline, "candidate": measure.candidate}
            yield bars("Dollars per solved task", values)


def _title(comparison: Comparison) -> str:
    return "The candidate is promoted" if comparison.promoted else "The candidate is not promoted"


def _notes(comparison: Comparison) -> list[str]:
    how = "task by task" if comparison.paired else "as two samples"
    return [
        f"Because {comparison.reason}.",
        f"{comparison.runs[0]} and {comparison.runs[1]} runs, compared {how}.",
        *(f"Flag: {flag}." for flag in comparison.flags),
    ]


def _cells(measure: Measure) -> tuple[str, str, str, str, str]:
    d = measure.difference
    return (
        measure.name,
        f"{measure.baseline:.4g}",
        f"{measure.candidate:.4g}",
        f"{d.value:+.4g}",
        f"[{d.low:+.4g}, {d.high:+.4g}]",
    )


def _case(run: Run) -> str:
    told = f"reward {run.reward:g}, {run.steps} messages"
    return f"{told}, {run.note}" if run.note else told


def _escape(text: str) -> str:
    return html.escape(text).replace("|", "&#124;").replace("\n", " ")


def _bar(measure: Measure) -> str:
    """Return an interval as a picture: zero in the middle, better to the right."""
    d = measure.difference
    low, high = (d.low, d.high) if measure.better == "higher" else (-d.high, -d.low)
    span = max(abs(low), abs(high)) or 1.0
    x, width = 60 + 55 * low / span, max(2.0, 55 * (high - low) / span)
    colour = "#2a2" if low > 0 else "#c33" if high < 0 else "#888"
    return (
        f"<svg width='120' height='14' role='img' aria-label='{low:.3g} to {high:.3g}'>"
        f"<line x1='60' y1='0' x2='60' y2='14' stroke='#000'/>"
        f"<rect x='{x:.1f}' y='4' width='{width:.1f}' height='6' fill='{colour}'/></svg>"
    )
