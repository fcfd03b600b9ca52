"""A tool's output as text that a model may see: bounded, decodable, and marked if untrusted."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from agentmesh import canonical

_TAG = "untrusted"
_BRACKETS = "<＜﹤‹⟨〈《«"
_OPENING = re.compile(f"[{_BRACKETS}]")
_LOOKAHEAD = 40
_HEAD_SHARE = 0.75


def text_of(output: Any) -> str:
    """Return any tool output as text: bytes decoded, content blocks joined, the rest as JSON."""
    if isinstance(output, str):
        return canonical.clean(output)
    if isinstance(output, bytes | bytearray):
        return canonical.clean(bytes(output).decode("utf-8", "replace"))
    if output is None:
        return "(no output)"
    if isinstance(output, list) and output and all(_is_block(item) for item in output):
        return canonical.clean("\n".join(_block_text(item) for item in output))
    try:
        return canonical.clean(json.dumps(output, ensure_ascii=False, sort_keys=True, default=str))
    except (TypeError, ValueError, RecursionError):
        return canonical.clean(str(output))


def _is_block(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and isinstance(item.get("type"), str))


def _block_text(item: Any) -> str:
    if isinstance(item, str):
        return item
    text = item.get("text")
    return text if isinstance(text, str) else f"[{item['type']} left out]"


def cut(text: str, limit: int) -> str:
    """Return `text` within `limit` characters; its middle gives way to a note of how much went."""
    if len(text) <= limit:
        return text
    room = max(limit - 120, 0)
    head = int(room * _HEAD_SHARE)
    tail = room - head
    gone = len(text) - head - tail
    note = f"\n[{gone:,} of {len(text):,} characters cut here; ask for a narrower part]\n"
    return text[:head] + note + (text[-tail:] if tail else "")


def delimit(text: str, *, tool: str, mark: str) -> str:
    """Return untrusted `text` between tags that it cannot close.

    `mark` stands in both tags and should be unknown to whoever wrote the text. Anything in the
    text that looks like one of the tags, look-alike brackets and letters included, is defused.
    """
    inside = _OPENING.sub(lambda match: _defused(match, text), text)
    return f'<{_TAG} tool="{tool}" id="{mark}">\n{inside}\n</{_TAG} id="{mark}">'


def _defused(match: re.Match[str], text: str) -> str:
    after = text[match.end() : match.end() + _LOOKAHEAD]
    folded = unicodedata.normalize("NFKD", after).casefold()
    letters = "".join(char for char in folded if char.isalpha())
    return "&lt;" if letters.startswith(_TAG) else match.group()
