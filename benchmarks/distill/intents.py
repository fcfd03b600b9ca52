"""Students of labels: the share answered at 95% agreement with few and with many examples."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agentmesh.distill.clusters import clusters
from agentmesh.distill.ensemble import Ensemble, threshold
from agentmesh.routing.evaluation import Interval, bootstrap
from benchmarks.distill.data import rows

AGREEMENT = 0.95
SIZES = (1_000, 3_000, None)
TARGETS = {"clinc150": (0.60, 0.85, 0.97), "banking77": (0.50, 0.83, 0.95)}
PLAIN = {"clinc150": (0.49, 0.79, 0.96), "banking77": (0.38, 0.78, 0.93)}
"""What plain TF-IDF with a linear SVM answers."""
ROUNDS = 200
_HELD = 2_000


def parts(name: str, data: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return training and held-out rows: CLINC150's own validation, 2,000 rows of Banking77."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows(f"intents/{name}", data):
        found[row["split"]].append((row["text"], row["label"]))
    train = found["train"]
    random.Random(0).shuffle(train)
    if name == "clinc150":
        return train, found["val"]
    return train[_HELD:], train[:_HELD]


def balanced(train: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the rows so that any first n of them are balanced over labels."""
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for row in train:
        seen[row[1]] += 1
        ranked.append((seen[row[1]], len(ranked), row))
    return [row for _, _, row in sorted(ranked)]


def answered(confidence: Any, right: Any) -> float:
    """Return the largest share that can be answered at the agreement, most confident first."""
    order = np.argsort(-confidence, kind="stable")
    rate = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(rate >= AGREEMENT)
    return float((good[-1] + 1) / len(order)) if len(good) else 0.0


def _interval(confidence: Any, right: Any) -> Interval:
    return bootstrap(lambda i: answered(confidence[i], right[i]), len(right), rounds=ROUNDS)


def run(data: Path, names: tuple[str, ...] = ("clinc150", "banking77")) -> Iterator[dict[str, Any]]:
    """Yield one result per data set and number of labelled examples."""
    for name in names:
        train, held = parts(name, data)
        ordered = balanced(train)
        texts = [text for text, _ in held]
        truth = np.array([label for _, label in held])
        for size, target, plain in zip(SIZES, TARGETS[name], PLAIN[name], strict=True):
            mine = ordered[:size]
            pool = [text for text, _ in ordered[len(mine) :]]
            began = time.perf_counter()
            given = [text for text, _ in mine]
            fitted = Ensemble.fit(
                given,
                [label for _, label in mine],
                pool=pool,
                groups=clusters(given),
                folds=5 if len(mine) < 5_000 else 3,
            )
            trained = time.perf_counter() - began
            found = fitted.model.answer(texts)
            right = np.array(found.labels) == truth
            share = _interval(found.confidence, right)
            gate = found.confidence >= threshold(fitted.confidence, fitted.right, AGREEMENT)
            yield {
                "data": name,
                "labelled": len(mine),
                "accuracy": float(right.mean()),
                "answered at 95%": share.value,
                "interval": f"{share.low:.3f} to {share.high:.3f}",
                "target": target,
                "plain SVM": plain,
                "answered by its own gate": float(gate.mean()),
                "agreement there": float(right[gate].mean()) if gate.any() else None,
                "training s": round(trained, 1),
            }
