"""Which row of a list is meant: the only one in a state, or the one that the customer names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_STATE = re.compile(r"[a-z][a-z_-]{1,24}")
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_ROWS = 20
_DEEP = 3


def chosen(value: Any, asked: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows that something tells from the others of their list, and the path that says what.

    >>> dict(chosen({"orders": [{"id": 1, "status": "sent"}, {"id": 2, "status": "new"}]}, ""))
    {'orders/status=sent': {'id': 1, 'status': 'sent'}, 'orders/status=new': {'id': 2, 'status': 'new'}}
    """
    said = {_stem(word) for word in _LETTERS.findall(asked.casefold())}
    for path, rows in _lists(value, "", _DEEP):
        for key in sorted({key for row in rows for key in row}):
            states = [row.get(key) for row in rows]
            for row, state in zip(rows, states, strict=True):
                if isinstance(state, str) and _STATE.fullmatch(state) and states.count(state) == 1:
                    yield f"{path}/{key}={state}", row
        scores = [len(said & set(_words(row))) for row in rows]
        if max(scores, default=0) > 0 and scores.count(max(scores)) == 1:
            yield f"{path}/named", rows[scores.index(max(scores))]


def _lists(value: Any, path: str, deep: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the lists of objects in JSON, with their paths."""
    if isinstance(value, dict) and deep:
        for key, inner in value.items():
            yield from _lists(inner, f"{path}/{key}" if path else str(key), deep - 1)
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        yield path, value[:_ROWS]


def _words(row: dict[str, Any]) -> Iterator[str]:
    """Yield the words of what a row is called: of texts that are no state, date or number."""
    for value in row.values():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and not _STATE.fullmatch(text):
                yield from (_stem(word) for word in _LETTERS.findall(text.casefold()))


def _stem(word: str) -> str:
    return word.rstrip("s")
