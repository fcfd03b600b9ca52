"""What breaks the cache in a log: where a session's next prompt, or another session's, parts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmesh.audit.pieces import Part
from agentmesh.economy.semantics import ModelName, known, semantics

SESSIONS = 2_048
TEXTS = 64
HEAD_CHARS = 200_000
_EXCERPT = 48

_VOLATILE = (
    (re.compile(r"\d{1,2}:\d{2}|\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}/\d{2,4}"), "a date or time"),
    (re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|\b[0-9a-f]{16,}\b"), "an id"),
    (re.compile(r"\d"), "a number"),
)


class Last(NamedTuple):
    """A session's newest prompt: its parts' hashes, its tokens up to each, its time and model."""

    hashes: Sequence[bytes]
    tokens: Sequence[int]
    kinds: Sequence[str]
    at: float
    model: ModelName


@dataclass
class Break:
    """One way of breaking the cache: how often, how many tokens had to be paid again, where."""

    times: int = 0
    tokens: int = 0
    example: str = ""


@dataclass
class Breaks:
    """Finds breaks from one record to the next, in bounded memory."""

    found: dict[str, Break] = field(default_factory=dict)
    repeated: int = 0
    _last: OrderedDict[str, Last] = field(default_factory=OrderedDict)
    _heads: OrderedDict[bytes, str] = field(default_factory=OrderedDict)

    def see(
        self,
        session: str,
        model: ModelName,
        parts: Sequence[Part],
        hashes: Sequence[bytes],
        tokens: Sequence[int],
        at: float | None,
        where: str,
    ) -> None:
        """Compare a request with its session's last one; `tokens` are those up to each part."""
        now = at or 0.0
        old = self._last.pop(session, None)
        kinds = [part.kind for part in parts]
        if old is not None:
            self._compare(old, Last(hashes, tokens, kinds, now, model), where, timed=at is not None)
        self._last[session] = Last(hashes, tokens, kinds, now, model)
        if len(self._last) > SESSIONS:
            self._last.popitem(last=False)

    def knows(self, session: str) -> bool:
        """Say whether a request of this session was seen not long ago."""
        return session in self._last

    def pause(self, model: ModelName, gap_s: float, tokens: int, where: str) -> None:
        """Note a gap inside a conversation that outlives the model's cache."""
        if gap_s > semantics(model).ttl_s:
            self._add("the cache's time ran out", tokens, where, f"{gap_s:,.0f} s between calls")

    def sent_again(self, model: ModelName, tokens: int, where: str) -> None:
        """Note a prompt that is sent again, if it is too short for its model to cache."""
        minimum = semantics(model).minimum if known(model) else 0
        if 0 < tokens < minimum:
            what = "a prompt that is sent again is shorter than its model caches"
            self._add(what, tokens, where, f"{tokens:,} tokens, {model} caches from {minimum:,} on")

    def head(self, parts: Sequence[Part], digest: bytes, tokens: int, where: str) -> None:
        """Compare the tools and the system text of a new session with those seen before."""
        if digest in self._heads:
            self._heads.move_to_end(digest)
            return
        text = "\n".join(part.text for part in parts)[:HEAD_CHARS]
        for other in reversed(self._heads.values()):
            if text[:64] == other[:64]:
                self._parted(other, text, tokens, where)
                break
        self._heads[digest] = text
        if len(self._heads) > TEXTS:
            self._heads.popitem(last=False)

    def _parted(self, old: str, new: str, tokens: int, where: str) -> None:
        at = _first_difference(old, new)
        start = max(0, at - _EXCERPT // 2)
        before, after = old[start : at + _EXCERPT], new[start : at + _EXCERPT]
        changed = f"{_word(old, at)} {_word(new, at)}"
        what = next((name for pattern, name in _VOLATILE if pattern.search(changed)), "other text")
        lost = round(tokens * (1 - at / max(1, len(new))))
        self._add(
            f"the shared part differs between sessions by {what}",
            lost,
            where,
            f"character {at:,}: {before!r} / {after!r}",
        )

    def _compare(self, old: Last, new: Last, where: str, *, timed: bool) -> None:
        same = 0
        for one, two in zip(old.hashes, new.hashes, strict=False):
            if one != two:
                break
            same += 1
        kept = new.tokens[same - 1] if same else 0
        self.repeated += kept
        lost = old.tokens[-1] - kept if old.tokens else 0
        if timed and new.at < old.at:
            self._add("the log's clock goes backwards", 0, where, f"{old.at - new.at:,.0f} s")
        if old.model != new.model:
            self._add("the model is switched", kept, where, f"{old.model} to {new.model}")
        elif same < len(old.hashes):
            kind = old.kinds[same]
            self._add(_why(kind, same, old, new), lost, where, f"part {same + 1}, {kind}")
        elif timed and new.at - old.at > semantics(new.model).ttl_s:
            self._add(
                "the cache's time ran out", kept, where, f"{new.at - old.at:,.0f} s between calls"
            )
        else:
            self.sent_again(new.model, kept, where)

    def _add(self, cause: str, tokens: int, where: str, example: str) -> None:
        row = self.found.setdefault(cause, Break())
        row.times += 1
        row.tokens += tokens
        row.example = row.example or f"{where}: {example}"


def _why(kind: str, same: int, old: Last, new: Last) -> str:
    if kind == "tools":
        return "the tools change within a session"
    if kind in ("system", "developer"):
        return "the system text changes within a session"
    later = set(new.hashes[same:])
    if any(part in later for part in old.hashes[same + 1 :]):
        return "the history is trimmed or edited in the middle"
    return "the history is rewritten"


def _word(text: str, at: int) -> str:
    """Return the run of text without spaces around a place."""
    end = text.find(" ", at)
    return text[text.rfind(" ", 0, at) + 1 : end if end >= 0 else len(text)]


def _first_difference(one: str, two: str) -> int:
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == two[:middle] else (low, middle - 1)
    return low
