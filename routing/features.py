"""What a classifier sees of a text besides its words: counts that need no vocabulary.

All are within 0 and 1, so that no scaler has to be trained, stored or trusted.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator

_URL = re.compile(r"https?://|www\.|\bt\.me/|\bbit\.ly/", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w/#-])(?:\+?\d[\d ]{8,13}\d|0\d{9,10})(?![\w/-])")
_SHORT_CODE = re.compile(r"\b(?:to|on|code) \d{5}\b", re.IGNORECASE)
_MONEY = re.compile(
    r"[£$€]\s?\d|\b\d[\d,.]*\s?(?:usd|eur|gbp|dollars?|pounds?|euros?)\b", re.IGNORECASE
)
_CODE = re.compile(r"```|^\s{4,}\S|[{};]\s*$|\w\(\)|=>|::|\bdef \w+\(|</\w+>", re.MULTILINE)
_MATH = re.compile(r"[=^√∫∑≤≥]|\d\s*[*/+]\s*\d|\b[a-z]\^\d|\bsqrt\b", re.IGNORECASE)
_LIST = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_QUESTION = re.compile(r"^\W*(?:who|what|when|where|why|which|how)\b", re.IGNORECASE)
_YES_NO = re.compile(
    r"^\W*(?:is|are|was|do|does|did|can|could|will|would|should|has|have)\b", re.IGNORECASE
)
_ORDINAL = re.compile(r"(?<!\w)(?:#?[A-Z]{0,4}-?\d{4,}[-\dA-Z]*)\b")
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|im|my|me|we|our)\b", re.IGNORECASE)
_SECOND_PERSON = re.compile(r"\b(?:you|your|ur|u)\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|except|never|no|none|false|incorrect|least|without)\b", re.IGNORECASE
)
_CHOICE = re.compile(r"^[A-H][.)] ", re.MULTILINE)
_NAME = re.compile(r"\b[A-Z][a-z]+")
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[?!]")
_DIGIT = re.compile(r"\d")
_LEAST_STEM = 3


def _share(pattern: re.Pattern[str], per: float) -> Callable[[str], float]:
    return lambda text: min(1.0, sum(1 for _ in pattern.finditer(text)) / per)


def _long(words: list[str]) -> int:
    return sum(len(word) > 9 for word in words)


def _letters(text: str, test: Callable[[str], bool]) -> float:
    return sum(map(test, text)) / max(1, len(text))


SURFACE: dict[str, Callable[[str], float]] = {
    "length": lambda t: min(1.0, math.log1p(len(t)) / 9),
    "very short": lambda t: float(len(t) < 15),
    "lines": lambda t: min(1.0, math.log1p(t.count("\n")) / 5),
    "sentences": lambda t: min(1.0, len(re.findall(r"[.!?]+(?:\s|$)", t)) / 8),
    "commas": lambda t: min(1.0, t.count(",") / 8),
    "question marks": lambda t: min(1.0, t.count("?") / 3),
    "exclamation marks": lambda t: min(1.0, t.count("!") / 4),
    "capitals": lambda t: _letters(t, str.isupper),
    "digits": lambda t: _letters(t, str.isdigit),
    "odd characters": lambda t: _letters(t, lambda c: not (c.isalnum() or c.isspace())),
    "long words": lambda t: min(1.0, sum(map(len, w := _WORD.findall(t))) / max(1, len(w)) / 9),
    "links": _share(_URL, 2),
    "phone numbers": _share(_PHONE, 1),
    "short codes": _share(_SHORT_CODE, 1),
    "money": _share(_MONEY, 2),
    "code": _share(_CODE, 6),
    "formulas": _share(_MATH, 4),
    "list items": _share(_LIST, 5),
    "question word": _share(_QUESTION, 1),
    "yes-no question": _share(_YES_NO, 1),
    "order numbers": _share(_ORDINAL, 1),
    "first person": _share(_FIRST_PERSON, 3),
    "second person": _share(_SECOND_PERSON, 3),
    "words": lambda t: min(1.0, len(_WORD.findall(t)) / 300),
    "different words": lambda t: len(set(w := _WORD.findall(t.lower()))) / max(1, len(w)),
    "very long words": lambda t: min(1.0, 3 * _long(w := _WORD.findall(t)) / max(1, len(w))),
    "compressed size": lambda t: min(1.0, len(zlib.compress(t.encode())) / max(16, len(t))),
    "longest line": lambda t: min(1.0, max(map(len, t.split("\n"))) / 600),
    "last lines": lambda t: min(1.0, sum(map(len, t.splitlines()[-5:])) / 1000),
    "negations": _share(_NEGATION, 3),
    "choices": _share(_CHOICE, 5),
    "gaps to fill": lambda t: min(1.0, t.count("__") / 2),
    "numbers": _share(_NUMBER, 12),
    "names": _share(_NAME, 12),
}
"""Name -> value within 0 and 1, in the order of the feature vector."""

GRAMS: dict[str, Callable[[str, int, int], Iterator[str]]] = {}
"""The ways to cut a text into pieces, by name; training and deciding use the same function."""

READ_CHARS = 8_000
"""Longer texts are read at both ends, which bounds the time of a decision."""


def surface(text: str) -> list[float]:
    """Return the surface features of `text`, in the order of `SURFACE`."""
    return [feature(text) for feature in SURFACE.values()]


def readable(text: str) -> str:
    """Return what a classifier reads of `text`: all of it, or its two ends."""
    if len(text) <= READ_CHARS:
        return text
    half = READ_CHARS // 2
    return text[:half] + "\n" + text[-half:]


def plain(text: str) -> str:
    """Return `text` in lower case without accents."""
    text = text.lower()
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def word_grams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of `shortest` to `longest` words; question and exclamation marks are words."""
    tokens = _TOKEN.findall(plain(text))
    for n in range(shortest, longest + 1):
        if n == 1:
            yield from tokens
        else:
            yield from map(" ".join, zip(*(tokens[i:] for i in range(n)), strict=False))


def stems(text: str) -> list[str]:
    """Return the words of `text` without their usual endings, every number read as 0."""
    return [_stem(word) for word in _TOKEN.findall(_NUMBER.sub("0", plain(text)))]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word[: -len(ending)]
    return word


def stem_grams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of `shortest` to `longest` stems."""
    tokens = stems(text)
    for n in range(shortest, longest + 1):
        yield from map(" ".join, zip(*(tokens[i:] for i in range(n)), strict=False))


def pair_grams(text: str, nearest: int, farthest: int) -> Iterator[str]:
    """Yield each two different stems that stand so far apart once, whatever their order.

    Two words of a request often say together what neither says alone: a card and a fee.
    """
    tokens = stems(text)
    pairs: dict[tuple[str, str], None] = {}  # a set would give another order in every process
    for i, word in enumerate(tokens):
        for other in tokens[i + nearest : i + farthest + 1]:
            if word != other:
                pairs[(word, other) if word < other else (other, word)] = None
    yield from map("&".join, pairs)


def char_grams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of characters inside words, a space standing for a word's edge."""
    for word in plain(text).split():
        padded = f" {word} "
        for n in range(shortest, longest + 1):
            if len(padded) <= n:
                yield padded
                break
            yield from (padded[i : i + n] for i in range(len(padded) - n + 1))


def shape_grams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of characters inside words, every digit read as 0."""
    return char_grams(_DIGIT.sub("0", text), shortest, longest)


GRAMS.update(
    words=word_grams, chars=char_grams, stems=stem_grams, shapes=shape_grams, pairs=pair_grams
)
