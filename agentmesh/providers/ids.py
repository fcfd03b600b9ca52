"""Tool-call ids on the wire: every vendor accepts them, and a result still finds its call.

Ids come from many places (other vendors, recordings, small servers that count from zero in every
answer), while Anthropic refuses odd characters and repeated ids. The mapping depends on nothing
but the ids in their order, so the same log gives the same bytes.
"""

from __future__ import annotations

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
        self._given: dict[str, list[str]] = {}
        self._answered: dict[str, int] = {}

    def call(self, call_id: str) -> str:
        """Return the wire's id of the next call named `call_id`."""
        given = self._given.get(call_id)
        if given is None:
            wire = safe_id(call_id)
            self._given[call_id] = [wire]
        else:
            wire = _made("again", f"{len(given)} {call_id}")
            given.append(wire)
        return wire

    def result(self, call_id: str) -> str:
        """Return the wire's id of the oldest call named `call_id` that has no result yet."""
        given = self._given.get(call_id)
        if given is None:
            return safe_id(call_id)
        number = self._answered.get(call_id, 0)
        self._answered[call_id] = number + 1
        return given[min(number, len(given) - 1)]
