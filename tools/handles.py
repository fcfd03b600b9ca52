"""Long results go by handle: the model sees both ends, and reads the middle if it needs it."""

from __future__ import annotations

from collections import OrderedDict

from agentmesh.errors import ConfigError, InputError

_KEPT = 50
_MAX_LINES = 400


class Handles:
    """Keeps long texts, newest last; `shown` characters of each are shown at once.

    >>> handles = Handles(shown=400)
    >>> short = handles.short("\\n".join(f"line {n}" for n in range(1, 1001)))
    >>> "whole text: result r1, 1000 lines" in short
    True
    >>> handles.read("r1", 500, 500)
    'line 500'
    """

    def __init__(self, *, shown: int = 4_000) -> None:
        if shown < 200:
            raise ConfigError(f"shown cannot be {shown!r}", hint="use 200 or more characters")
        self.shown = shown
        self._texts: OrderedDict[str, list[str]] = OrderedDict()
        self._made = 0

    def short(self, text: str) -> str:
        """Return `text`, or both its ends and the handle under which the whole is kept."""
        if len(text) <= self.shown:
            return text
        self._made += 1
        handle, lines = f"r{self._made}", text.split("\n")
        self._texts[handle] = lines
        if len(self._texts) > _KEPT:
            self._texts.popitem(last=False)
        note = f"[... whole text: result {handle}, {len(lines)} lines; read_result shows any ...]"
        head, tail = text[: self.shown // 3], text[-(self.shown - self.shown // 3) :]
        return f"{head}\n{note}\n{tail}"

    def read(self, handle: str, start: int, end: int) -> str:
        """Return lines of a kept text."""
        lines = self._texts.get(handle)
        if lines is None:
            raise InputError(f"the result {handle!r} is not kept", hint="make the call again")
        first, last = max(start, 1), min(end, start + _MAX_LINES - 1, len(lines))
        if first > last:
            raise InputError(f"{handle!r} has no lines {start} to {end}", hint=f"1 to {len(lines)}")
        return "\n".join(lines[first - 1 : last])
