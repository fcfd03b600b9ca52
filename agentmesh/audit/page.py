"""A report as one HTML file: tables and inline SVG charts, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --dim: #667085; --paper: #fff; --line: #e4e7ec;
  --a: #2563eb; --b: #93b4f5; --c: #d97706; --d: #94a3b8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --paper: #12161f;
  --line: #2a3140; --a: #6b9bff; --b: #34508f; --c: #f0a63c; --d: #566175; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, figcaption { color: var(--dim); } figure { margin: 1rem 0; }
.facts { display: flex; flex-wrap: wrap; gap: 1rem; } .fact { border: 1px solid var(--line);
  border-radius: .5rem; padding: .6rem 1rem; } .fact b { display: block; font-size: 1.3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; } th:first-child, td:first-child { text-align: left; white-space: normal;
  overflow-wrap: anywhere; min-width: 7rem; }
td.text, th.text { text-align: left; white-space: normal; }
th { color: var(--dim); font-weight: 600; } code { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
.a { fill: var(--a); background: var(--a); } .b { fill: var(--b); background: var(--b); }
.c { fill: var(--c); background: var(--c); } .d { fill: var(--d); background: var(--d); }
"""

_WIDTH, _LABEL, _ROW, _BAR = 760, 190, 26, 16


class Bar(NamedTuple):
    """A row of a chart: its label, the parts of its bar, and what stands behind it."""

    label: str
    parts: Sequence[float]
    text: str


def page(title: str, *sections: str) -> str:
    """Return a whole HTML document."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a section with its heading; nothing if it has no content."""
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return the few figures that matter most, large."""
    cells = "".join(
        f'<div class="fact"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in rows
    )
    return f'<div class="facts">{cells}</div>'


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = ()) -> str:
    """Return a table; the first column and those in `text` are words, all others figures."""
    head = "".join(
        f'<th class="text">{escape(column)}</th>' if i in text else f"<th>{escape(column)}</th>"
        for i, column in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="text">{escape(cell)}</td>' if i in text else f"<td>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    if not body:
        return ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def bars(caption: str, rows: Sequence[Bar], keys: Sequence[str] = ()) -> str:
    """Return a chart of horizontal bars, each of up to four parts that `keys` name."""
    if not rows:
        return ""
    longest = max(sum(row.parts) for row in rows) or 1.0
    height = len(rows) * _ROW + 4
    room = _WIDTH - _LABEL - 210
    lines = []
    for number, row in enumerate(rows):
        y, x = number * _ROW + 4, float(_LABEL)
        lines.append(
            f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(_short(row.label))}'
            f"<title>{escape(row.label)}</title></text>"
        )
        for part, colour in zip(row.parts, "abcd", strict=False):
            width = part / longest * room
            lines.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}"/>'
            )
            x += width
        lines.append(f'<text x="{x + 6:.1f}" y="{y + 13}">{escape(row.text)}</text>')
    legend = "".join(
        f'<span class="key {colour}"></span>{escape(key)}'
        for key, colour in zip(keys, "abcd", strict=False)
    )
    return (
        f"<figure><figcaption>{escape(caption)}{legend}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(caption)}">'
        f"{''.join(lines)}</svg></figure>"
    )


def _short(text: str, chars: int = 28) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
