"""The cheapest sequence of tiers for one who knows every outcome, and how little is left below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from benchmarks.routing.trace import PRICES, Asked, Pair


class _Reached(NamedTuple):
    """The least cost with which a session gets to a state, and from which state by which tier."""

    cost: float
    before: tuple[int, int]
    model: str


def hindsight(calls: Sequence[Asked], pair: Pair) -> list[str]:
    """Return the cheapest sequence of tiers of one session for one who knows every outcome.

    What a call costs depends on when each tier was used last, so that is the state. Its marks are
    the library's: to leave one out, to write for an hour or to escalate late is not among its
    choices, and would be worth next to nothing (see `least`).
    """
    lengths = [asked.length for asked in calls]

    def cost(model: str, i: int, last: int) -> float:
        alive = last >= 0 and calls[i].at - calls[last].at < semantics(model).ttl_s
        read = lengths[last] if alive else 0
        usage = Usage(read=read, write=lengths[i] - read, output=calls[i].output)
        return (PRICES.cost(model, usage, at=calls[i].at) or 0) / 1e6

    rows: list[dict[tuple[int, int], _Reached]] = [{(-1, -1): _Reached(0.0, (-1, -1), "")}]
    for i, asked in enumerate(calls):
        row: dict[tuple[int, int], _Reached] = {}
        for state, reached in rows[-1].items():
            for rank in (0, 1) if asked.ok else (1,):
                total = reached.cost + cost(pair[rank], i, state[rank])
                after = (i, state[1]) if rank == 0 else (state[0], i)
                if after not in row or total < row[after].cost:
                    row[after] = _Reached(total, state, pair[rank])
        rows.append(row)
    state = min(rows[-1], key=lambda s: rows[-1][s].cost)
    models = []
    for row in reversed(rows[1:]):
        models.append(row[state].model)
        state = row[state].before
    return models[::-1]


def least(calls: Sequence[Asked], pair: Pair) -> float:
    """Return dollars that no sequence of tiers and marks can cost less than, outcomes known.

    Here nothing that was written ever grows cold, at the price of the short time to live, and
    every call may leave its mark out: it then pays its new tokens fresh and writes nothing. The
    state is how many calls' prompts each tier has cached. Drafts that fail are left out: a call
    that writes costs at least as much as one that also answers.
    """
    count = len(calls)
    known = np.array([0.0, *(asked.length for asked in calls)])
    best = np.full((count + 1, count + 1), np.inf)
    best[0, 0] = 0.0
    for i, asked in enumerate(calls):
        after = np.full_like(best, np.inf)
        for rank in (0, 1) if asked.ok else (1,):
            before, reached = (best, after) if rank == 0 else (best.T, after.T)
            fresh, read, write, answer = _rates(pair[rank], asked)
            old, new = known[: i + 1] * read + answer, asked.length - known[: i + 1]
            marked = (before[: i + 1] + (old + new * write)[:, None]).min(axis=0)
            reached[i + 1] = np.minimum(reached[i + 1], marked)
            unmarked = before[: i + 1] + (old + new * fresh)[:, None]
            reached[: i + 1] = np.minimum(reached[: i + 1], unmarked)
        best = after
    return float(best.min())


def _rates(model: str, asked: Asked) -> tuple[float, float, float, float]:
    """Return a token's dollars fresh, read and written, and those of the answer."""
    price = PRICES.price(model, at=asked.at, input_tokens=asked.length)
    if price is None or price.read is None or price.write is None:
        raise LookupError(f"{model!r} has no price")
    parts = (float(part) / 1e6 for part in (price.input, price.read, price.write, price.output))
    fresh, read, write, output = parts
    return fresh, read, write, output * asked.output
