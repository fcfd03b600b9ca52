"""The tools of an epoch as its models see them: a frozen list, and what the log says has changed.

An epoch's tool list opens every prompt, so one more tool in it would push all of the session out
of the cache. A change inside an epoch is therefore an entry of the log, of the kind `tools`, and
nothing before it moves. Each vendor is told in its own way, see `agentmesh.providers`; the next
epoch's list has it all.

What holds at an entry is a pure function of the list and of the entries before it. A change that
changes nothing, because a later epoch's list has it already, is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentmesh.prompt import Entry, ToolSpec

KIND = "tools"
"""The kind of an entry that tells of other tools, and the type of its block."""


class Change(NamedTuple):
    """Tools that are new or newly defined, and the names of those that are no more."""

    added: tuple[ToolSpec, ...] = ()
    removed: tuple[str, ...] = ()

    def block(self) -> dict[str, Any]:
        """Return the change as a log's block; its text is what it is called where text is read."""
        said = [f"{spec.name} was added" for spec in self.added]
        said += [f"{name} was removed" for name in self.removed]
        return {
            "type": KIND,
            "added": [[spec.name, spec.description, spec.parameters] for spec in self.added],
            "removed": list(self.removed),
            "text": "tools: " + ", ".join(said),
        }

    @property
    def notice(self) -> str:
        """What a model reads whose vendor has no way to withdraw a tool; "" for nothing."""
        if not self.removed:
            return ""
        names = ", ".join(self.removed)
        return f"<tools-update>\nNo longer available, do not call: {names}\n</tools-update>"


@dataclass(frozen=True)
class ToolView:
    """The tools that are offered at some place of the log, by name.

    >>> view = ToolView.of((), [])
    >>> view.towards([ToolSpec("zoom", "Look closer.", "{}")]).added[0].name
    'zoom'
    """

    offered: dict[str, ToolSpec]
    """What may be called."""
    declared: frozenset[str]
    """Every name that the prompt holds a definition of."""

    @classmethod
    def of(cls, listed: Sequence[ToolSpec], entries: Iterable[Entry]) -> ToolView:
        """Return what holds after `entries`, with `listed` as the epoch's frozen list."""
        view = cls({spec.name: spec for spec in listed}, frozenset(spec.name for spec in listed))
        for entry in entries:
            if entry.kind == KIND:
                _, view = view.after(entry)
        return view

    @property
    def withdrawn(self) -> frozenset[str]:
        """The names that the prompt defines, and that may not be called."""
        return self.declared - self.offered.keys()

    def after(self, entry: Entry) -> tuple[Change, ToolView]:
        """Return what an entry really changes here, and what holds after it."""
        added: list[ToolSpec] = []
        removed: list[str] = []
        for block in entry.blocks:
            added += [ToolSpec(*row) for row in block["added"]]
            removed += block["removed"]
        change = Change(
            tuple(spec for spec in added if self.offered.get(spec.name) != spec),
            tuple(name for name in removed if name in self.offered),
        )
        left = {name: spec for name, spec in self.offered.items() if name not in change.removed}
        new = {spec.name: spec for spec in change.added}
        return change, ToolView({**left, **new}, self.declared | new.keys())

    def towards(self, wanted: Sequence[ToolSpec]) -> Change:
        """Return the change that leads from here to the tools that are wanted."""
        names = {spec.name for spec in wanted}
        return Change(
            tuple(spec for spec in wanted if self.offered.get(spec.name) != spec),
            tuple(sorted(name for name in self.offered if name not in names)),
        )


def size(block: dict[str, Any]) -> str:
    """Return the text that a change adds to a prompt, for counting."""
    return "".join("".join(row) for row in block["added"]) + "".join(block["removed"])
