"""From an epoch and its log to a prompt: a pure function, the same bytes everywhere.

The canonical text of a prompt is the frozen part, one line per entry, the tail and the marks.
Its SHA-256 is recorded with every call, so that any past call can be rebuilt and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from agentmesh import canonical
from agentmesh.memory.epochs import Epoch, frozen_text
from agentmesh.memory.views import EVERYTHING, View
from agentmesh.prompt import Entry, Marks, Prompt, Segment

SHOWN = frozenset({"user", "assistant", "tool", "note", "digest", "tools"})
"""The kinds of entry that a prompt shows; all others are bookkeeping."""


def render(
    epoch: Epoch,
    entries: Sequence[Entry],
    *,
    tail: str = "",
    marks: Marks | None = None,
    key: str = "",
) -> Prompt:
    """Return the prompt of an epoch's visible entries, volatile text in the tail alone."""
    return Prompt(
        tools=epoch.tools,
        segments=epoch.segments,
        entries=tuple(entries),
        tail=tail,
        marks=marks or Marks(),
        cache_key=key,
    )


def entry_line(entry: Entry) -> str:
    """Return an entry as a line of the canonical text."""
    return f"{entry.seq} {entry.kind} {entry.body}\n"


def prefix_text(prompt: Prompt) -> str:
    """Return a prompt's canonical text up to its tail: what only grows within an epoch."""
    frozen = frozen_text(prompt.tools, prompt.segments)
    return "\n".join([frozen, "".join(entry_line(entry) for entry in prompt.entries)])


def marks_text(marks: Marks) -> str:
    """Return a prompt's marks as canonical JSON."""
    return canonical.dumps(
        {
            "segments": dict(marks.segments),
            "entries": {str(seq): ttl for seq, ttl in marks.entries.items()},
        }
    )


def call_marks(marks: Marks, view: View | None = None, own: Sequence[Segment] | None = None) -> str:
    """Return a prompt's marks as the ledger keeps them, with the view if it hides anything.

    `own` is the frozen part of a prompt that shows nothing of the session's: it stands here whole.
    """
    text = marks_text(marks)
    if own is not None:
        told = [[segment.name, segment.text] for segment in own]
        return canonical.dumps({**canonical.loads(text), "own": told})
    if view is None or view.whole:
        return text
    return canonical.dumps({**canonical.loads(text), "view": canonical.loads(view.text())})


def own_prompt(text: str, tail: str) -> Prompt | None:
    """Return the prompt of a call that showed nothing of its session; None for any other."""
    if '"own"' not in text or (told := canonical.loads(text).get("own")) is None:
        return None
    segments = tuple(Segment(name, body) for name, body in told)
    return Prompt((), segments, (), tail, parse_marks(text))


def own_sha(prompt: Prompt) -> str:
    """Return the SHA-256 of a prompt that has no epoch."""
    text = f"{prefix_text(prompt)}{canonical.dumps(prompt.tail)}\n{marks_text(prompt.marks)}"
    return hashlib.sha256(text.encode()).hexdigest()


def parse_view(text: str) -> View:
    """Return the view that a text made by `call_marks` names."""
    if '"view"' not in text:
        return EVERYTHING
    return View.parse(canonical.dumps(canonical.loads(text).get("view", {})))


def parse_marks(text: str) -> Marks:
    """Return the marks of a text made by `marks_text`."""
    value = canonical.loads(text)
    return Marks(value["segments"], {int(seq): ttl for seq, ttl in value["entries"].items()})


class PrefixHash:
    """The hash of a growing prompt: adding an entry costs that entry alone."""

    def __init__(self, epoch: Epoch) -> None:
        self._hash = hashlib.sha256(epoch.text.encode())
        self._hash.update(b"\n")
        self._head = 0

    @property
    def head(self) -> int:
        """The seq of the last entry added."""
        return self._head

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add the entries at the end that were not added before."""
        new = len(entries)
        while new and entries[new - 1].seq > self._head:
            new -= 1
        for entry in entries[new:]:
            self._hash.update(entry_line(entry).encode())
            self._head = entry.seq

    def copy(self) -> PrefixHash:
        """Return a hash that grows on its own from here."""
        twin = PrefixHash.__new__(PrefixHash)
        twin._hash, twin._head = self._hash.copy(), self._head
        return twin

    def of(self, tail: str, marks: Marks) -> str:
        """Return the SHA-256 of the prompt that ends here with this tail and these marks."""
        whole = self._hash.copy()
        whole.update(f"{canonical.dumps(tail)}\n{marks_text(marks)}".encode())
        return whole.hexdigest()


class ViewHash:
    """The hashes of what a view has shown of an epoch, in the order of its calls.

    Each call costs what is new to it, and each step of a window what then stands in it.
    """

    def __init__(self, scope: View, epoch: Epoch) -> None:
        self._scope = scope
        self._before = PrefixHash(scope.epoch(epoch))  # notes that outlived their turns
        self._window = self._before
        self._start = self._end = 0
        self._first = 0

    def of(self, shown: Sequence[Entry], upto: int, turn: int, tail: str, marks: Marks) -> str:
        """Return the SHA-256 of the prompt that showed the first `upto` entries in a turn."""
        first = self._scope.first_turn(turn)
        if first > self._first:
            self._first, start = first, self._start
            while start < upto and shown[start].turn < first:
                start += 1
            self._before.extend(self._scope.entries(shown[self._start : start], turn))
            self._window, self._start, self._end = self._before.copy(), start, start
        self._window.extend(self._scope.entries(shown[self._end : upto], turn))
        self._end = max(self._end, upto)
        return self._window.of(tail, marks)


def prompt_sha(epoch: Epoch, entries: Sequence[Entry], tail: str, marks: Marks) -> str:
    """Return the SHA-256 of a prompt's canonical text."""
    prefix = PrefixHash(epoch)
    prefix.extend(entries)
    return prefix.of(tail, marks)
