"""Fuzzed plans, each sent as its vendor's request to the emulator's reader and cache."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from benchmarks.economy.plans import Judge, cases


def fuzz(number: int, seed: int = 1) -> dict[str, Any]:
    """Return how many of `number` plans the vendors would have refused, or read too little."""
    judge = Judge()
    faults: Counter[str] = Counter()
    examples: list[str] = []
    plans = sessions = 0
    began = time.perf_counter()
    for case in cases(number, seed):
        if plans >= number:
            break
        plans += len(case.stops)
        sessions += 1
        for fault in judge.faults(case):
            faults[fault.split(" ", 1)[0].rstrip(":")] += 1
            examples.append(f"{case.model}: {fault}")
    return {
        "plans": plans,
        "sessions": sessions,
        "invalid": faults.pop("refused", 0),
        "other_faults": dict(faults),
        "examples": examples[:5],
        "seconds": round(time.perf_counter() - began, 1),
    }
