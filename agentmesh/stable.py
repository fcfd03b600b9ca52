"""What a stable part of a prompt may hold: nothing that another process would write differently.

The clock, random ids, addresses of objects and the order of sets belong in the tail. What surely
is one of these is refused; what may be meant (a date in a policy, a fixed id) is not. Whatever
passes and still differs from process to process is found by comparing two of them: see `drift`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import NamedTuple

from agentmesh.errors import ConfigError, InputError

NEAR_S = 15 * 60.0
"""A point in time that is stated to the second and this close to now was read from the clock."""

TAIL = "what changes belongs in the tail: Agent(tail=lambda: ...)"

_EXCERPT_CHARS = 40
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UUID = r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"
_ISO = r"\b(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d+)?\s?(Z|UTC|[+-]\d\d:?\d\d)?"
_WORDED = rf"\b(\d\d?) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d)"
_CTIME = rf"\b({'|'.join(_MONTHS)}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{{4}})\b"
_EPOCH = r"(?<![\w.#-])(\d{10})(?:\d{3})?(?![\w-])"
_ADDRESS = r"\bat 0x[0-9a-fA-F]{6,16}>"
_find = {name: re.compile(p) for name, p in {"uuid": _UUID, "iso": _ISO, "worded": _WORDED}.items()}
_find |= {"ctime": re.compile(_CTIME), "epoch": re.compile(_EPOCH), "at": re.compile(_ADDRESS)}
_VOLATILE = re.compile(
    rf"{_UUID}|0x[0-9a-fA-F]+|\d{{4}}-\d\d-\d\d|\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?"
    rf"|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b|\b(?:{'|'.join(_MONTHS)})[a-z]*\b"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\d+(?:\.\d+)?"
)


def stable_text(segment: str, text: object, *, now: float | None = None) -> str:
    """Return a stable segment's text if it is the same in every process, as far as one can see.

    Raises:
        ConfigError: it is no text, or holds the time, a fresh id or an object's address.
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"the segment {segment!r} is text, not {text!r:.80}", hint=f"a str; {TAIL}"
        )
    for what, found in _volatile(text, time.time() if now is None else now):
        raise ConfigError(f"the segment {segment!r} holds {what}: {found!r}", hint=TAIL)
    return text


def stable_value(segment: str, value: object) -> None:
    """Refuse a value that is no JSON because it is made to change.

    Raises:
        InputError: it holds the clock, an id, a set, a function or another object.
    """
    for inner in _leaves(value):
        if what := _kind(inner):
            hint = "store its text if it is a fact, a sorted list in a set's place; " + TAIL
            raise InputError(f"{segment} holds {what}: {inner!r:.80}", hint=hint)


class Drift(NamedTuple):
    """Two renderings of a segment that differ in what changes by itself: why, and where."""

    cause: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.before!r} before, {self.after!r} now"


def drift(before: str, after: str) -> Drift | None:
    """Return how a text has changed if only a time, an id, a number or an order has, else None.

    >>> drift("Case 1f3a9c77aa: be kind", "Case 99b2e1f0cd: be kind").cause
    'a time, an id or a number differs'
    >>> drift("Sizes: S, M", "Sizes: M, S").cause
    'the order differs'
    >>> drift("Be kind", "Be brief")
    """
    if before == after:
        return None
    if _VOLATILE.sub("#", before) == _VOLATILE.sub("#", after):
        return Drift("a time, an id or a number differs", *parting(before, after))
    if sorted(re.findall(r"\w+", before)) == sorted(re.findall(r"\w+", after)):
        return Drift("the order differs", *parting(before, after))
    return None


def _volatile(text: str, now: float) -> Iterator[tuple[str, str]]:
    """Yield what of a text surely came from the clock, a generator of ids or an address."""
    for match in _find["at"].finditer(text):
        yield "an object's address", match[0]
    for match in _find["uuid"].finditer(text):
        if (made := _made_at(uuid.UUID(match[0]))) and abs(made - now) < NEAR_S:
            yield "an id that was made just now", match[0]
    for match in _find["epoch"].finditer(text):
        if abs(int(match[1]) - now) < NEAR_S:
            yield "the time", match[0]
    for name in ("iso", "worded", "ctime"):
        for match in _find[name].finditer(text):
            if any(abs(at - now) < NEAR_S for at in _times(name, match)):
                yield "the time", match[0]


def _made_at(one: uuid.UUID) -> float | None:
    """Return when an id was made, if it says so."""
    if one.version == 1:
        return (one.time - 0x01B21DD213814000) / 1e7
    if one.version == 7:
        return (one.int >> 80) / 1e3
    return None


def _times(name: str, match: re.Match[str]) -> Iterator[float]:
    """Yield the points in time that a text may mean: with no zone, here or in UTC."""
    zone = None
    if name == "iso":
        *numbers, zone = match.groups()
    elif name == "worded":
        day, month, year, *clock = match.groups()
        numbers = [year, str(_MONTHS.index(month) + 1), day, *clock]
    else:
        month, day, *clock, year = match.groups()
        numbers = [year, str(_MONTHS.index(month) + 1), day, *clock]
    try:
        plain = datetime(*map(int, numbers))  # type: ignore[arg-type]  # six numbers
        if zone and zone[0] in "+-":
            ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
            yield (plain.replace(tzinfo=UTC) - ahead * (1 if zone[0] == "+" else -1)).timestamp()
            return
        yield plain.replace(tzinfo=UTC).timestamp()
        if not zone:
            yield plain.timestamp()
    except (ValueError, OverflowError, OSError):
        return  # no point in time


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _kind(value: object) -> str:
    """Return what is wrong with a value, in words; "" if nothing is."""
    if value is None or isinstance(value, str | int | float):
        return ""
    if isinstance(value, set | frozenset):
        return "a set, which has no order"
    if isinstance(value, date | clock_time | timedelta):
        return "a value of the clock"
    if isinstance(value, uuid.UUID):
        return "an id"
    return "a function" if callable(value) else "an object that is no JSON"


def parting(before: str, after: str) -> tuple[str, str]:
    """Return what stands in both texts from a little before where they part."""
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    start = max(0, same - _EXCERPT_CHARS // 2)
    return before[start : start + _EXCERPT_CHARS], after[start : start + _EXCERPT_CHARS]
