"""What a model no longer sees and how it gets it back, word for word.

A tool's result that is too long is cut before it is first sent, and its whole text is kept in the
log under a handle. What a compaction took out of sight has its place in the log for a handle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.memory.compaction import text_of
from agentmesh.memory.render import SHOWN
from agentmesh.tools import Declaration, context, tool
from agentmesh.tools.output import delimit

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from agentmesh.memory import Memory, Turn
    from agentmesh.memory.sessions import Record

WHOLE = "whole"
"""The kind of a record that holds a result's whole text; prompts do not show it."""

PAGE_CHARS = 8_000
FOUND_CHARS = 3_000
FOUND = 5
_BEFORE_CHARS = 300
_HANDLE_DIGITS = 10
_DELIMITED = re.compile(
    r'<untrusted tool="([^"]*)" id="(\w+)">\n(.*)\n</untrusted id="\2">', re.DOTALL
)


class Passage(NamedTuple):
    """A text that can be asked for; one of an untrusted tool carries its name and its mark."""

    handle: str
    kind: str
    text: str
    tool: str = ""
    mark: str = ""

    def page(self, start: int, end: int) -> str:
        """Return characters of the text, between tags that they cannot close if untrusted."""
        piece = self.text[start:end]
        return delimit(piece, tool=self.tool, mark=self.mark) if self.mark else piece


def handle_of(key: str) -> str:
    """Return the handle of the result of the call with this idempotency key."""
    return f"h{key[:_HANDLE_DIGITS]}"


def cut_line(handle: str, whole: str) -> str:
    """Return the line that ends a result that was cut."""
    return f'[cut from {len(whole):,} characters; recall(handle="{handle}") reads all of it]'


def keep(turn: Turn, step: int, key: str, name: str, whole: str, stated: Declaration) -> None:
    """Log the whole text of a result that was cut, where no prompt shows it."""
    block = {"type": "text", "text": whole}
    turn.add(WHOLE, [block], step, handle=handle_of(key), tool=name, trust=stated.trust)


def passages(records: Iterable[Record]) -> list[Passage]:
    """Return all that can be asked for, oldest first; a result that was cut counts once, whole."""
    found = []
    for record in records:
        if record.kind == WHOLE:
            body = canonical.loads(record.body)
            mark = canonical.sha(record.chain)[:12] if body["trust"] == "untrusted" else ""
            text = body["blocks"][0]["text"]
            found.append(Passage(body["handle"], "tool", text, body["tool"], mark))
        elif record.kind in SHOWN and "handle" not in canonical.loads(record.body):
            found.append(_passage(record))
    return found


def _passage(record: Record) -> Passage:
    text = text_of(record)
    inside = _DELIMITED.fullmatch(text)
    if inside is None:
        return Passage(f"#{record.seq}", record.kind, text)
    return Passage(f"#{record.seq}", record.kind, inside[3], inside[1], inside[2])


def find(known: Sequence[Passage], words: str, *, limit: int = FOUND) -> list[Passage]:
    """Return the passages that hold most of the words, best first, then the newest."""
    wanted = {word.lower() for word in words.split()}
    scored = [
        (sum(word in text for word in wanted), place, passage)
        for place, passage in enumerate(known)
        if (text := passage.text.lower())
    ]
    best = sorted((s for s in scored if s[0]), key=lambda s: (-s[0], -s[1]))[:limit]
    return [passage for _, _, passage in best]


def recall_tool(memory: Memory) -> BaseTool:
    """Return the tool that brings back passages which are cut or no longer shown."""

    @tool(name="recall", max_chars=2 * FOUND * FOUND_CHARS)
    def recall(words: str = "", handle: str = "", offset: int = 0) -> str:
        """Read earlier passages of this conversation that are cut or no longer shown, word for word.

        Args:
            words: What to look for: names, numbers, identifiers.
            handle: Which passage to read, as an earlier result names it; instead of words.
            offset: From which character of it on.
        """
        now = context()
        records = memory.history(now.session).records()
        # What this turn says of the words it looks for is no finding.
        known = passages(r for r in records if r.turn != now.turn or r.kind in (WHOLE, "tool"))
        if handle:
            return _read(known, handle, offset)
        if not words.strip():
            raise InputError("there is nothing to look for", hint="give words, or a handle")
        found = find(known, words)
        if not found:
            return f"Nothing in this conversation holds {words!r}."
        return "\n\n".join(_excerpt(passage, words) for passage in found)

    return recall


def _read(known: Sequence[Passage], handle: str, offset: int) -> str:
    passage = next((p for p in known if p.handle == handle), None)
    if passage is None:
        raise InputError(f"{handle!r:.40} names no passage", hint="look for words instead")
    length = len(passage.text)
    if not 0 <= offset < max(1, length):
        raise InputError(f"{handle!r} has no character {offset}", hint=f"0 to {length - 1}")
    end = min(length, offset + PAGE_CHARS)
    return f"{passage.page(offset, end)}\n{_where(passage, offset, end)}"


def _excerpt(passage: Passage, words: str) -> str:
    """Return a passage, or the part of a long one that begins to speak of the words."""
    text = passage.text.lower()
    places = [at for word in words.lower().split() if (at := text.find(word)) >= 0]
    start = 0
    if len(text) > FOUND_CHARS:
        start = max(0, min(max(places) - _BEFORE_CHARS, len(text) - FOUND_CHARS))
    end = min(len(passage.text), start + FOUND_CHARS)
    shown = passage.page(start, end)
    return f"[{passage.handle}, {passage.kind}]\n{shown}\n{_where(passage, start, end)}"


def _where(passage: Passage, start: int, end: int) -> str:
    length = len(passage.text)
    rest = f'; recall(handle="{passage.handle}", offset={end}) reads on' if end < length else ""
    return f"[characters {start:,} to {end:,} of {length:,}{rest}]"
