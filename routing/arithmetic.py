"""Evidence on an answer that calculates: sums redone, numbers traced to the question."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
_SUM = re.compile(
    r"((?:[\d.,$]+%?\s*[-+*/x×÷]\s*)+[\d.,$]+%?)\s*=\s*\$?(-?[\d,]+(?:\.\d+)?)", re.IGNORECASE
)
_FINAL = re.compile(
    r"(?:####|answer(?: is)?:?|\\boxed\{)\s*\$?(-?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE
)
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SPOKEN = {
    "half": 0.5,
    "twice": 2.0,
    "double": 2.0,
    "triple": 3.0,
    "dozen": 12.0,
    "third": 3.0,
    "quarter": 4.0,
    **{word: float(i) for i, word in enumerate(("zero", "one", "two", "three", "four", "five"))},
    **{word: 6.0 + i for i, word in enumerate(("six", "seven", "eight", "nine", "ten"))},
}
_COMMON = {1.0, 2.0, 7.0, 10.0, 12.0, 24.0, 30.0, 52.0, 60.0, 100.0, 365.0}
_PARTS = re.compile(r"half|third|quarter|fraction|ratio|percent|%", re.IGNORECASE)
_COMPARES = re.compile(r"more than|less than|fewer than|times as", re.IGNORECASE)
_RESTS = re.compile(r"left|remain|difference|total|altogether|average", re.IGNORECASE)
_UNKNOWN = re.compile(r"\blet\b|\bx\b|algebra|equation", re.IGNORECASE)
_DOUBTS = re.compile(r"however|wait|assum|cannot|unclear|not enough|mistake", re.IGNORECASE)


def arithmetic_evidence(question: str, answer: str, seen: str = "") -> dict[str, float]:
    """Return what speaks for and against the figures in `answer`, each value within 0 and 1.

    A figure that stands in `seen`, what else the model was shown, is from somewhere.
    """
    sums = _SUM.findall(answer)
    results = [_value(result) for _, result in sums]
    wrong = sum(_differs(left, result) for left, result in sums)
    asked = _numbers(question) | {v for w, v in _SPOKEN.items() if _says(w, question)}
    written = _numbers(answer)
    used = {n for left, _ in sums for n in _numbers(left)}
    final = _final(answer)
    strange = used - asked - set(results) - _COMMON
    if strange and seen:
        strange -= _numbers(seen)
    unused = asked - used - written
    sentences = [part.strip() for part in re.split(r"[.!?\n]+", answer) if part.strip()]
    found = {
        "wrong sums": wrong / 2,
        "a wrong sum": wrong > 0,
        "sums": len(sums) / 10,
        "divisions": sum("/" in left or "÷" in left for left, _ in sums) / 3,
        "no final figure": final is None,
        "final figure below 0": final is not None and final < 0,
        "final figure not whole": final is None or final != int(final),
        "final figure large": final is not None and final > 1e4,
        "final figure is the last result": bool(results) and final == results[-1],
        "final figure is in the question": final in asked,
        "figures from nowhere": len(strange) / 4,
        "figures not used": len(unused) / 3,
        "share of figures not used": len(unused) / max(1, len(asked)),
        "figures asked": len(asked) / 10,
        "sentences of the answer": len(sentences) / 12,
        "length of the answer": len(answer) / 1200,
        "answer longer than question": len(answer) / max(1, len(question)) / 4,
        "lines of the answer": answer.count("\n") / 12,
        "equations": answer.count("=") / 10,
        "parts of a whole": bool(_PARTS.search(question)),
        "comparison": bool(_COMPARES.search(question)),
        "rest or total": bool(_RESTS.search(question)),
        "unknowns": bool(_UNKNOWN.search(answer)),
        "doubts": bool(_DOUBTS.search(answer)),
        "a sentence twice": len(set(sentences)) < len(sentences),
    }
    return {name: min(1.0, max(0.0, float(value))) for name, value in found.items()}


def calculate(expression: str) -> float | None:
    """Return the value of a sum of numbers, or None where it is none."""
    text = expression.replace(",", "").replace("$", "")
    text = re.sub(r"[x×]", "*", text, flags=re.IGNORECASE).replace("÷", "/")
    text = re.sub(r"([\d.]+)%", r"(\1/100)", text)
    if len(text) > 200:
        return None
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, KeyError):
        return None


def _evaluate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    raise ValueError("not a sum")


def _differs(left: str, result: str) -> bool:
    computed, stated = calculate(left), _value(result)
    if computed is None or stated is None:
        return False
    return abs(computed - stated) > max(0.011, 0.002 * abs(computed))


def _final(answer: str) -> float | None:
    marked = _FINAL.findall(answer)
    if marked:
        return _value(marked[-1])
    numbers = _NUMBER.findall(answer)
    return _value(numbers[-1]) if numbers else None


def _numbers(text: str) -> set[float]:
    return {n for n in map(_value, _NUMBER.findall(text)) if n is not None}


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("$", "").rstrip("."))
    except ValueError:
        return None


def _says(word: str, text: str) -> bool:
    return re.search(rf"\b{word}\b", text, re.IGNORECASE) is not None
