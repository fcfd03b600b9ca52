"""Pictures of a report as SVG inside a page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _EDGE = 440, 240, 56


def line(title: str, points: Sequence[tuple[float, float]], x: str, y: str) -> str:
    """Return a curve through points; x and y are shares from 0 to 1."""
    if not points:
        return ""
    low = min(0.9, *(value for _, value in points))
    span = (1 - low) or 1.0
    places = " ".join(
        f"{_EDGE + at * (_WIDTH - 2 * _EDGE):.1f},"
        f"{_HEIGHT - _EDGE - (value - low) / span * (_HEIGHT - 2 * _EDGE):.1f}"
        for at, value in points
    )
    body = (
        f"<polyline points='{places}' fill='none' stroke='#27c' stroke-width='2'/>"
        f"<text x='{_EDGE - 4}' y='{_EDGE}' text-anchor='end'>100%</text>"
        f"<text x='{_EDGE - 4}' y='{_HEIGHT - _EDGE}' text-anchor='end'>{low:.0%}</text>"
        f"<text x='{_WIDTH - _EDGE}' y='{_HEIGHT - _EDGE + 16}' text-anchor='end'>100%</text>"
        f"<text x='{_WIDTH / 2}' y='{_HEIGHT - 8}' text-anchor='middle'>{html.escape(x)}</text>"
        f"<text x='12' y='{_HEIGHT / 2}' text-anchor='middle'"
        f" transform='rotate(-90 12 {_HEIGHT / 2})'>{html.escape(y)}</text>"
    )
    return _picture(title, body + _axes())


def bars(title: str, values: Mapping[str, float], form: str = "{:.4g}") -> str:
    """Return values as bars, each with its name and figure."""
    most = max(values.values(), default=0.0) or 1.0
    rows = "".join(
        f"<text x='150' y='{i * 26 + 30}' text-anchor='end'>{html.escape(name)}</text>"
        f"<rect x='156' y='{i * 26 + 18}' width='{value / most * 180:.1f}' height='16' fill='#27c'/>"
        f"<text x='{160 + value / most * 180:.1f}' y='{i * 26 + 30}'>{form.format(value)}</text>"
        for i, (name, value) in enumerate(values.items())
    )
    return _picture(title, rows, height=26 * len(values) + 24)


def _axes() -> str:
    bottom, right = _HEIGHT - _EDGE, _WIDTH - _EDGE
    return (
        f"<path d='M{_EDGE},{_EDGE} V{bottom} H{right}' fill='none' stroke='#000'"
        " stroke-width='1'/>"
    )


def _picture(title: str, body: str, height: int = _HEIGHT) -> str:
    name = html.escape(title, quote=True)
    return (
        f"<figure><figcaption>{name}</figcaption><svg width='{_WIDTH}' height='{height}' role='img'"
        f" aria-label='{name}' font-family='system-ui' font-size='12'>{body}</svg></figure>"
    )
