"""An item: one version of one fact, who said it, and how a prompt shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agentmesh import canonical

Kind = Literal["org", "profile", "task"]
KINDS: tuple[Kind, ...] = ("org", "profile", "task")

Source = Literal["developer", "user", "agent", "tool", "import"]
Trust = Literal["trusted", "user", "untrusted"]

TRUST: dict[str, Trust] = {
    "developer": "trusted",
    "user": "user",
    "agent": "user",
    "tool": "untrusted",
    "import": "untrusted",
}
"""The trust that an item has by its source, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Item:
    """One version of one fact; `value` is JSON, `revision` the edit that wrote it.

    A `pending` one holds only once a person has agreed to it, see `Bucket.decide`.
    """

    key: str
    value: Any
    revision: int
    source: str
    author: str
    trust: str
    valid_from: float
    removed: bool = False
    superseded_by: int | None = None
    tokens: int = 0
    pending: bool = False

    def line(self) -> str:
        """Return the item as a prompt shows it: one line that can close no delimiter."""
        if self.removed:
            return f"{self.key}: (removed)"
        mark = "" if self.trust == "trusted" else f" [{_MARK[self.trust]}]"
        return f"{self.key}: {escape(canonical.dumps(self.value))}{mark}"


_MARK = {"user": "said by the user", "untrusted": "unverified"}


_ESCAPED = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>\x85\u2028\u2029"})


def escape(text: str) -> str:
    """Return JSON text that can close no tag and begin no new line, by JSON's own escapes."""
    return text.translate(_ESCAPED)


def item_of(row: Any) -> Item:
    """Return the item that a row of `bucket_items` holds."""
    return Item(
        key=row.key,
        value=None if row.value is None else canonical.loads(row.value),
        revision=row.revision,
        source=row.source,
        author=row.author,
        trust=row.trust,
        valid_from=row.valid_from,
        removed=row.value is None,
        superseded_by=row.superseded_by,
        tokens=row.tokens,
    )


def lines(items: Iterable[Item]) -> str:
    """Return items as prompt lines, sorted by key."""
    return "\n".join(item.line() for item in sorted(items, key=lambda item: item.key))
