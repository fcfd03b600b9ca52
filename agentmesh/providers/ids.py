"""Tool-call ids on the wire: every vendor accepts them, and a result still finds its call.

Ids come from many places (other vendors, recordings, small servers that count from zero in every
answer), while Anthropic refuses odd characters and repeated ids. The mapping depends on nothing
but the ids in their order, so the same log gives the same bytes.
"""

from __future__ import annotations

from collections import deque

from agentmesh import canonical

MAX_CHARS = 64


def safe_id(call_id: str) -> str:
    """Return `call_id` if every vendor accepts it, else a stable id made from its hash."""
    letters = call_id.replace("_", "a").replace("-", "a")  # many times faster than a pattern
    if len(call_id) <= MAX_CHARS and letters.isascii() and letters.isalnum():
        return call_id
    return _made("call", call_id)


def _made(prefix: str, text: str) -> str:
    return f"{prefix}_{canonical.sha(canonical.clean(text))[:32]}"


class CallIds:
    """The ids of one request, given out in the order of its calls and results.

    >>> ids = CallIds()
    >>> ids.call("call_0"), ids.result("call_0"), ids.call("call_0") != "call_0"
    ('call_0', 'call_0', True)
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._open: dict[str, deque[str]] = {}
        self._last: dict[str, str] = {}

    def call(self, call_id: str) -> str:
        """Return the wire's id of the next call named `call_id`."""
        count = self._seen.get(call_id, 0)
        self._seen[call_id] = count + 1
        wire = _made("again", f"{count} {call_id}") if count else safe_id(call_id)
        self._open.setdefault(call_id, deque()).append(wire)
        self._last[call_id] = wire
        return wire

    def result(self, call_id: str) -> str:
        """Return the wire's id of the oldest call named `call_id` that has no result yet."""
        waiting = self._open.get(call_id)
        if waiting:
            return waiting.popleft()
        return self._last.get(call_id, safe_id(call_id))
