"""Where to put cache breakpoints: few slots, spent where money is saved.

The order of worth: the layer that all users share, the frozen part of this user, the entry that
this model wrote last (the return anchor, where the vendor's lookback no longer reaches it), and
the tail, so that the next step reads what this one wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentmesh.economy.semantics import CacheSemantics
from agentmesh.prompt import Entry, Marks, Ttl

SHARED = frozenset({"tools", "core", "org"})
"""Layers that do not depend on the user."""


def place_marks(
    layers: Sequence[tuple[str, int]],
    entries: Sequence[Entry],
    semantics: CacheSemantics,
    *,
    anchor: int | None = None,
    ttl: Ttl = "short",
) -> Marks:
    """Return the marks of a prompt for a model with these cache semantics.

    Args:
        layers: name and tokens of the tools and each segment, in order.
        entries: the visible log.
        semantics: the model's cache rules; models that cache by themselves get no marks.
        anchor: seq of the last entry that this model marked, if it may still be cached.
        ttl: how long what is written shall live.
    """
    if semantics.family not in ("anthropic", "openai-explicit"):
        return Marks()
    segments: dict[str, Ttl] = {}
    total, shared, frozen = 0, "", ""
    for name, tokens in layers:
        total += tokens
        if total >= semantics.minimum:
            shared, frozen = (name if name in SHARED else shared), name
    for name in (shared, frozen):
        if name:
            segments[name] = ttl
    total += sum(entry.tokens for entry in entries)
    if not entries or total < semantics.minimum:
        return Marks(segments)
    marked: dict[int, Ttl] = {}
    if anchor is not None and _beyond_lookback(entries, anchor, semantics):
        marked[anchor] = ttl
    marked[entries[-1].seq] = ttl
    return Marks(segments, marked)


def _beyond_lookback(entries: Sequence[Entry], anchor: int, semantics: CacheSemantics) -> bool:
    """Say whether a mark at the end no longer finds what was written at the anchor."""
    if semantics.lookback is None or all(entry.seq != anchor for entry in entries):
        return False
    newer = [entry for entry in entries if entry.seq > anchor]
    return sum(positions(entry) for entry in newer) >= semantics.lookback


def positions(entry: Entry) -> int:
    """Return how many cache positions an entry takes; a run of calls is one, a result is one."""
    kinds = [block["type"] for block in entry.blocks]
    runs = sum(1 for i, kind in enumerate(kinds) if kind != "call" or kinds[i - 1 : i] != ["call"])
    return max(1, runs)
