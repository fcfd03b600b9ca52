"""The leak finder on a planted set of 10,000 rows, and on the public data as it is."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentmesh.distill.clusters import Index, normal
from agentmesh.distill.leaks import Row, contamination
from benchmarks.distill.data import rows
from benchmarks.distill.reword import reword

TRAIN, EACH, CLEAN = 7_000, 600, 1_200


def distinct(data: Path, rng: random.Random) -> list[str]:
    """Return texts of ten words or more, no two of which share half of their words."""
    texts = {row["prompt"].split("\nA. ")[0].strip() for row in rows("routing/mmlu_pairs", data)}
    texts |= {row["prompt"].strip() for row in rows("routing/gsm8k_pairs", data)}
    for name in ("intents/banking77", "intents/sms_spam", "intents/clinc150"):
        texts |= {row["text"].strip() for row in rows(name, data)}
    shuffled = sorted(text for text in texts if 10 <= len(text.split()) <= 80)
    rng.shuffle(shuffled)
    usual = Counter(word for text in shuffled for word in set(normal(text).split()))
    kept: list[str] = []
    by_word: dict[str, list[int]] = {}
    words: list[frozenset[str]] = []
    for text in shuffled:
        mine = frozenset(normal(text).split())
        rare = sorted(mine, key=lambda word: (usual[word], word))[: len(mine) // 2 + 1]
        near = {i for word in rare for i in by_word.get(word, ())}  # half the words: one is rare
        if any(len(mine & words[i]) / len(mine | words[i]) >= 0.5 for i in near):
            continue
        for word in rare:
            by_word.setdefault(word, []).append(len(kept))
        words.append(mine)
        kept.append(text)
        if len(kept) == TRAIN + CLEAN + EACH:
            break
    return kept


def planted(data: Path, seed: int) -> tuple[list[Row], list[Row]]:
    """Return training and test rows; a test row's id says what was planted."""
    rng = random.Random(seed)
    texts = distinct(data, rng)
    train = [Row(f"train {i}", text, f"c{i}") for i, text in enumerate(texts[:TRAIN])]
    rest = iter(texts[TRAIN:])
    test = [
        Row(f"exact {i}", f"  {row.text.upper() if i % 2 else row.text + '!'} ", f"e{i}")
        for i, row in enumerate(rng.sample(train, EACH))
    ]
    test += [
        Row(f"reworded {i}", reword(row.text, rng), f"w{i}")
        for i, row in enumerate(rng.sample(train, EACH))
    ]
    test += [
        Row(f"conversation {i}", next(rest), row.conversation)
        for i, row in enumerate(rng.sample(train, EACH))
    ]
    test += [Row(f"clean {i}", text, f"f{i}") for i, text in enumerate(rest)]
    return train, test


def planted_set(data: Path, seeds: int = 1) -> list[dict[str, Any]]:
    """Return the shares found of each kind of leak, by seed."""
    results = []
    for seed in range(seeds):
        train, test = planted(data, seed)
        began = time.perf_counter()
        found = {leak.test: leak for leak in contamination(train, test).leaks}
        size = Counter(row.id.split()[0] for row in test)
        shares = Counter(name.split()[0] for name in found)
        results.append(
            {
                "seed": seed,
                "rows": len(train) + len(test),
                **{kind: shares[kind] / n for kind, n in size.items()},
                "false": shares["clean"] / size["clean"],
                "seconds": time.perf_counter() - began,
            }
        )
    return results


def public(data: Path) -> Iterator[dict[str, Any]]:
    """Yield what leaks between the parts of the public data sets, as their owners split them."""
    for name, train, test in (("clinc150", "train", "val"), ("clinc150", "oos_train", "oos_val")):
        parts: dict[str, list[Row]] = {train: [], test: []}
        for i, row in enumerate(rows(f"intents/{name}", data)):
            if row["split"] in parts:
                parts[row["split"]].append(Row(f"{name}:{i}", row["text"]))
        report = contamination(parts[train], parts[test])
        yield {"data": f"{name} {train} / {test}", "rows": len(parts[test]), **report.counts}
    for name in ("intents/banking77", "routing/mmlu_pairs", "intents/sms_spam"):
        texts = [row.get("text") or row["prompt"] for row in rows(name, data)]
        same = Counter(map(normal, texts))
        pairs = Index(texts).similar(texts)
        alike = {p.row for p in pairs if normal(texts[p.row]) != normal(texts[p.match])}
        yield {
            "data": f"{name} within itself",
            "rows": len(texts),
            "exact": sum(n for n in same.values() if n > 1),
            "reworded": len(alike),
        }
    steps = list(rows("routing/agent_steps", data))
    halves = [
        Row(str(i), str(row["messages"][-1].get("content")), str(row["instance_id"]))
        for i, row in enumerate(steps)
    ]
    random.Random(0).shuffle(halves)
    cut = len(halves) * 7 // 10
    report = contamination(halves[:cut], halves[cut:])
    yield {"data": "agent_steps shuffled 70/30", "rows": len(halves) - cut, **report.counts}
