"""Replaces personal data by pseudonyms: the same value is the same pseudonym in every row.

A pseudonym is a keyed hash of what it stands for, so nothing has to be remembered, rows can be
redacted in any order and on any machine, and nobody without the key can undo it by guessing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from agentmesh.distill.traces import Trace
from agentmesh.errors import ConfigError

_EMAIL = re.compile(r"[\w.+%-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w#+./-])(?:"
    r"\+\d(?:[ ().-]{0,2}\d){6,14}"  # international
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([ .-])\d{3}\1\d{4}"  # North American
    r"|0\d{2,4}[ /-]\d{3,4}(?:[ -]?\d{2,4}){0,2}|0\d{9,10}"  # national, leading zero
    r")(?![\w/-])"
)
_FIRST = [
    "Alex",
    "Blake",
    "Casey",
    "Dana",
    "Eli",
    "Frankie",
    "Gale",
    "Harper",
    "Indy",
    "Jamie",
    "Kit",
    "Lee",
    "Morgan",
    "Noel",
    "Oakley",
    "Parker",
    "Quinn",
    "Robin",
    "Sage",
    "Taylor",
    "Uma",
    "Val",
    "Wren",
    "Yael",
    "Zion",
]
_LAST = [
    "Abel",
    "Birch",
    "Cole",
    "Dale",
    "Ellis",
    "Finch",
    "Gray",
    "Hale",
    "Irving",
    "Joyce",
    "Kerr",
    "Lane",
    "Marsh",
    "North",
    "Oaks",
    "Penn",
    "Quill",
    "Reed",
    "Stone",
    "Thorne",
    "Usher",
    "Vance",
    "West",
    "York",
    "Zane",
]
_MIN_KEY = 8


class Found(NamedTuple):
    """Personal data in a text: what kind it is and the text of it."""

    kind: str
    text: str


class Redactor:
    """Replaces e-mail addresses, phone numbers, payment cards and given names.

    >>> redactor = Redactor("a long secret key", names=["Mia Li"])
    >>> redactor.text("Mia Li <mia@shop.com>") == redactor.text("Mia Li <mia@shop.com>")
    True

    Args:
        key: the secret that pseudonyms are made with; keep it out of the data.
        names: names to replace, whole and by their parts; any letter case is found.
    """

    def __init__(self, key: str, *, names: Iterable[str] = ()) -> None:
        if len(key) < _MIN_KEY:
            raise ConfigError("the key is too short", hint=f"at least {_MIN_KEY} characters")
        self._key = key.encode()
        self._names = self._assign(
            sorted({" ".join(n.split()).lower() for n in names if n.strip()})
        )
        self._pattern = _any_of(self._names)

    def text(self, text: str) -> str:
        """Return `text` with personal data replaced."""
        text = _EMAIL.sub(lambda m: f"user-{self._digest(m[0].lower())[:10]}@example.com", text)
        text = _CARD.sub(lambda m: self._card(m[0]) if luhn(m[0]) else m[0], text)
        text = _PHONE.sub(lambda m: self._digits(m[0]), text)
        if self._pattern is not None:
            text = self._pattern.sub(lambda m: self._names[" ".join(m[0].split()).lower()], text)
        return text

    def find(self, text: str) -> list[Found]:
        """Return the personal data that `text` holds."""
        found = [Found("email", m[0]) for m in _EMAIL.finditer(text)]
        found += [Found("card", m[0]) for m in _CARD.finditer(text) if luhn(m[0])]
        found += [Found("phone", m[0]) for m in _PHONE.finditer(text)]
        if self._pattern is not None:
            found += [Found("name", m[0]) for m in self._pattern.finditer(text)]
        return found

    def value(self, value: Any) -> Any:
        """Return JSON with every text in it redacted; JSON texts stay JSON."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return type(value)(self.value(item) for item in value)
        if isinstance(value, dict):
            return {key: item if key in _KEPT else self.value(item) for key, item in value.items()}
        return value

    def trace(self, trace: Trace) -> Trace:
        """Return a trace whose prompt, answer and customer are redacted; tools stay."""
        return replace(
            trace,
            prompt=self.value(trace.prompt),
            answer=self.value(trace.answer),
            customer=self._digest(trace.customer)[:16] if trace.customer else "",
        )

    def _digest(self, value: str) -> str:
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()

    def _stream(self, value: str) -> Callable[[], int]:
        number = int(self._digest(value) + self._digest(value + "\n"), 16)

        def draw() -> int:
            nonlocal number
            number, digit = divmod(number, 10)
            return digit

        return draw

    def _digits(self, text: str) -> str:
        """Return a number of the same form; the same number written otherwise stays the same."""
        draw = self._stream(re.sub(r"\D", "", text))
        return "".join(str(draw()) if c.isdigit() else c for c in text)

    def _card(self, text: str) -> str:
        """Return digits of the same form that no bank gave out, with a valid check digit."""
        digits = re.sub(r"\D", "", text)
        draw = self._stream(digits)
        body = "9999" + "".join(str(draw()) for _ in digits[5:])
        check = next(d for d in "0123456789" if luhn(body + d))
        drawn = iter(body + check)
        return "".join(next(drawn) if c.isdigit() else c for c in text)

    def _assign(self, names: Sequence[str]) -> dict[str, str]:
        """Return distinct pseudonyms of names and of their parts."""
        table: dict[str, str] = {}
        taken: set[str] = set()
        for name in sorted(names, key=self._digest):
            number = int(self._digest(name), 16)
            while True:
                first, last = _FIRST[number % 25], _LAST[number // 25 % 25]
                if f"{first} {last}" not in taken or len(taken) >= 625:
                    break
                number += 1
            taken.add(f"{first} {last}")
            parts = name.split()
            table[name] = f"{first} {last}" if len(parts) > 1 else first
            if len(parts) > 1:
                table.setdefault(parts[0], first)
                table.setdefault(parts[-1], last)
        return table


_KEPT = frozenset({"role", "type", "id", "tool_call_id", "name"})
"""Fields of a message that are the protocol's, not the customer's."""


def luhn(text: str) -> bool:
    """Say whether the digits of `text` pass the check of payment cards."""
    digits = [int(c) for c in text if c.isdigit()][::-1]
    doubled = (d * 2 - 9 if d > 4 else d * 2 for d in digits[1::2])
    return len(digits) >= 13 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    longest = sorted(names, key=len, reverse=True)
    if not longest:
        return None
    words = (r"\s+".join(map(re.escape, name.split())) for name in longest)
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)
