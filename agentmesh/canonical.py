"""One way to write JSON and to hash it, so that equal values are equal bytes everywhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from agentmesh.errors import InputError


def dumps(value: Any) -> str:
    """Return `value` as canonical JSON: sorted keys, no spaces, no NaN, text as it is."""
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"not JSON: {error}", hint="use text, numbers, booleans, None, lists and dicts"
        ) from error


def sha(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def clean(text: str) -> str:
    """Return `text` with lone surrogates and NUL replaced, so that any database and API takes it."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "�")


def loads(text: str) -> Any:
    """Return the value of a JSON text; key order is kept."""
    return json.loads(text)
