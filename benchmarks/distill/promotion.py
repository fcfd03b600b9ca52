"""Promotion: real conversations before and after fine-tuning, equal candidates, slipping canaries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentmesh.distill.evaluate import Comparison, Run, compare, run_of
from agentmesh.distill.watch import Watch
from benchmarks.distill.data import rows


def telecom(data: Path) -> Comparison:
    """Return what gpt-4.1 fine-tuned on others' successes says against gpt-4.1."""
    before = [run_of(row) for row in rows("conversations/telecom_gpt-4.1", data)]
    after = [run_of(row) for row in rows("conversations/telecom_gpt-4.1-sft", data)]
    return compare(before, after)


def identical(data: Path, resamplings: int = 200) -> dict[str, Any]:
    """Return how often a candidate that is the baseline itself is promoted, resampled."""
    found = {}
    for name in ("telecom_gpt-4.1", "telecom_gpt-4.1-sft", "airline_gpt-4o"):
        pool = [run_of(row) for row in rows(f"conversations/{name}", data)]
        rng = random.Random(0)
        promoted = 0
        for _ in range(resamplings):
            one: Sequence[Run] = rng.choices(pool, k=len(pool))
            other: Sequence[Run] = rng.choices(pool, k=len(pool))
            promoted += compare(one, other).promoted
        found[name] = promoted / resamplings
    return found


def canary(baseline: float = 0.9, runs: int = 200, trials: int = 1_000) -> list[dict[str, Any]]:
    """Return how often a canary is rolled back within its runs, by how much worse it is."""
    results = []
    for drop in (-0.02, 0.0, 0.05, 0.10, 0.20):
        rng = random.Random(1)
        when = []
        for _ in range(trials):
            watch = Watch(baseline)
            for i in range(runs):
                if watch.see(float(rng.random() < baseline - drop)) == "rollback":
                    when.append(i + 1)
                    break
        median = sorted(when)[len(when) // 2] if when else None
        share = len(when) / trials
        results.append({"worse by": drop, "rolled back": share, "median run": median})
    return results


def live(baseline: float = 0.9, good: int = 500, trials: int = 200) -> list[dict[str, Any]]:
    """Return how soon a live student that slips after a good time is noticed."""
    results = []
    for drop in (0.0, 0.1, 0.2, 0.4):
        rng = random.Random(2)
        delays, early = [], 0
        for _ in range(trials):
            watch = Watch(baseline, mode="live")
            if any(watch.see(float(rng.random() < baseline)) == "rollback" for _ in range(good)):
                early += 1
                continue
            for i in range(500):
                if watch.see(float(rng.random() < baseline - drop)) == "rollback":
                    delays.append(i + 1)
                    break
        median = sorted(delays)[len(delays) // 2] if delays else None
        results.append(
            {
                "slips by": drop,
                "false alarms in 500 good runs": early / trials,
                "noticed within 500": len(delays) / max(1, trials - early),
                "median run": median,
            }
        )
    return results
