"""Splits that do not leak: whole conversations, and near-duplicates, stay on one side."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agentmesh.errors import ConfigError

SIMILAR = 0.8
"""The Jaccard similarity of word runs from which two texts count as one."""
_COMMON = 200
"""Runs in more texts than this say nothing about kinship, and would cost quadratic time."""


class Split(NamedTuple):
    """Row numbers for training and for testing."""

    train: list[int]
    test: list[int]


class Leak(NamedTuple):
    """A test row that training has seen, word for word or nearly, and where."""

    test: int
    train: int
    similarity: float


def clusters(texts: Sequence[str], groups: Sequence[str] | None = None) -> list[int]:
    """Return a cluster number per row: near-duplicates and rows of one group share it."""
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, group in enumerate(groups or ()):
        if group:
            parent[root(i)] = root(first.setdefault(group, i))
    runs = [_runs(text) for text in texts]
    for i, j, _ in _similar(runs, runs):
        parent[root(i)] = root(j)
    return [root(i) for i in range(len(texts))]


def split(
    texts: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """Return a split by cluster with about `test` of the rows in the test part."""
    if not 0 < test < 1:
        raise ConfigError(f"test={test!r}", hint="give a share such as 0.2")
    if groups is not None and len(groups) != len(texts):
        raise ConfigError(f"{len(groups)} groups, {len(texts)} texts", hint="one for each row")
    members: dict[int, list[int]] = defaultdict(list)
    for i, cluster in enumerate(clusters(texts, groups)):
        members[cluster].append(i)
    if len(members) < 2:
        raise ConfigError(
            f"the {len(texts)} rows are one conversation or copies of one text",
            hint="a split needs two independent rows or more",
        )
    order = sorted(members)
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    for cluster in order[:-1]:
        if len(chosen) >= test * len(texts):
            break
        chosen += members[cluster]
    inside = set(chosen)
    return Split([i for i in range(len(texts)) if i not in inside], sorted(chosen))


def leaks(train: Sequence[str], test: Sequence[str]) -> list[Leak]:
    """Return the test rows that are in training as well, verbatim or nearly."""
    found: dict[int, Leak] = {}
    for i, j, similarity in _similar([_runs(t) for t in test], [_runs(t) for t in train]):
        if i not in found or similarity > found[i].similarity:
            found[i] = Leak(i, j, similarity)
    return [found[i] for i in sorted(found)]


def refuse_leaks(train: Sequence[str], test: Sequence[str]) -> None:
    """Raise where a test row was seen in training: a figure from such a split means nothing."""
    found = leaks(train, test)
    if found:
        worst = max(found, key=lambda leak: leak.similarity)
        raise ConfigError(
            f"{len(found)} of {len(test)} test rows are in the training rows, such as "
            f"{test[worst.test][:60]!r}",
            hint="split with agentmesh.routing.split, which keeps copies together",
        )


def _runs(text: str) -> frozenset[str]:
    words = re.findall(r"\w+", text.lower())
    if len(words) < 3:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))


def _similar(
    left: Sequence[frozenset[str]], right: Sequence[frozenset[str]]
) -> Iterator[tuple[int, int, float]]:
    """Yield similar pairs; of one and the same list each pair once."""
    where: dict[str, list[int]] = defaultdict(list)
    for j, runs in enumerate(right):
        for run in runs:
            where[run].append(j)
    same = left is right
    for i, runs in enumerate(left):
        shared: dict[int, int] = defaultdict(int)
        for run in runs:
            rows = where.get(run, ())
            if len(rows) <= _COMMON:
                for j in rows:
                    if not same or j < i:
                        shared[j] += 1
        for j, count in shared.items():
            similarity = count / (len(runs) + len(right[j]) - count)
            if similarity >= SIMILAR:
                yield i, j, similarity
