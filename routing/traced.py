"""Whether what a call names was ever seen: an order number must come from somewhere.

Only values that look copied count: what a model may well have computed, chosen or worded itself
(plain numbers, dates, names, free text) proves nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_COPIED = re.compile(r"#?(?=[\w.+-]*\d)\w[\w.+-]{3,}|[\w.+-]+@[\w-]+\.[\w.-]+")
_COMPUTED = re.compile(
    r"\d{4}-\d\d?(?:-\d\d?)?(?:T[\d:.+Z-]*)?|\d\d?[.-]\d\d?[.-]\d{2,4}"  # dates
    r"|[+-]?\d{1,5}|[+-]?\d+(?:\.\d+)+|[+-]?\d+(?:\.\d+)?(?:[a-z%]{1,3})?"  # numbers, versions
    r"|[\w.+-]+\.[A-Za-z]{1,4}",  # file names; an address has its @
)
_LONG_NUMBER = re.compile(r"\d{6,}")
_JOINTS = str.maketrans("", "", " #-_.()+/\n\t")


def untraced(arguments: str, seen: str) -> str | None:
    """Return the first value of a call's arguments that looks copied, but from nothing in `seen`.

    Case and joints do not matter: `555-123-2002` is found in `(555) 123 2002`.
    """
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        return None  # another check's matter
    copied = list(_copied(given))
    if not copied:
        return None
    known = seen.casefold()
    missing = [value for value in copied if value.casefold() not in known]
    if not missing:
        return None
    squeezed = known.translate(_JOINTS)
    return next((v for v in missing if v.casefold().translate(_JOINTS) not in squeezed), None)


def _copied(value: Any) -> Iterator[str]:
    """Yield the leaves that nobody makes up honestly: identifiers, addresses, long numbers."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _copied(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _copied(inner)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
        known = _LONG_NUMBER.fullmatch(text) or not _COMPUTED.fullmatch(text)
        if _COPIED.fullmatch(text) and known:
            yield text
