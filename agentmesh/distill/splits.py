"""Splits that leak nothing and do not move: whole groups, assigned by hash, frozen in a file.

Rows of one conversation, one customer or one cluster of near-duplicates stay together. A split
that is extended keeps every earlier row where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agentmesh import canonical
from agentmesh.distill.clusters import ALIKE, REWORDED, Groups, clusters
from agentmesh.distill.leaks import Contamination, Row, contamination
from agentmesh.errors import ConfigError, CorruptError

Part = Literal["train", "validation", "test", "unused"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Which row is in which part; `unused` rows resemble training rows of another part's group."""

    parts: Mapping[str, Part]
    seed: str = "0"
    threshold: float | None = REWORDED
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        text = canonical.dumps([dict(self.parts), self.seed, self.threshold])
        object.__setattr__(self, "sha", canonical.sha(text))

    def of(self, row: str) -> Part:
        """Return a row's part; a row that the split does not know is refused."""
        if row not in self.parts:
            raise ConfigError(f"row {row!r} is not in the split", hint="extend the split first")
        return self.parts[row]

    def ids(self, part: Part) -> list[str]:
        """Return the rows of a part."""
        return [row for row, where in self.parts.items() if where == part]

    def save(self, path: Path | str) -> None:
        """Write the split; the file is there whole or not at all."""
        path = Path(path)
        value = {
            "parts": dict(self.parts),
            "seed": self.seed,
            "threshold": self.threshold,
            "sha": self.sha,
        }
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(json.dumps(value, ensure_ascii=False, indent=0), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path | str) -> Split:
        """Return a saved split; CorruptError if it was changed since."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            split = cls(value["parts"], value["seed"], value["threshold"])
        except OSError as error:
            raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{str(path)!r} is not a split", hint="make it anew") from error
        if split.sha != value.get("sha"):
            raise CorruptError(
                f"the split {str(path)!r} was changed since it was frozen",
                hint="restore the file: a changed split measures nothing",
            )
        return split


def split(
    rows: Sequence[Row],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: str = "0",
    frozen: Split | None = None,
    threshold: float | None = REWORDED,
) -> Split:
    """Return a split of `rows` in which no test row is given away by a training row.

    Args:
        rows: ids must differ.
        validation: the share of the validation part, by groups.
        test: the share of the test part.
        seed: another one gives another split.
        frozen: an earlier split whose rows stay where they are.
        threshold: the similarity from which a text counts as reworded; None leaves texts out of it,
            for traffic in which the same request is made again and again.

    Raises:
        ConfigError: ids repeat, or everything is one group so that nothing can be split.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ConfigError(
            f"validation={validation!r}, test={test!r}", hint="shares that leave some for training"
        )
    _check_ids(rows)
    groups = _groups(rows, near=threshold is not None)
    names = {row.id: groups.root(f"row {row.id}") for row in rows}
    settled: dict[str, Part] = {}
    for row in rows:
        if frozen is not None and row.id in frozen.parts:
            settled.setdefault(names[row.id], frozen.parts[row.id])
    parts: dict[str, Part] = dict(frozen.parts) if frozen else {}
    for row in rows:
        if row.id not in parts:
            name = names[row.id]
            parts[row.id] = settled.get(name) or _draw(f"{seed} {name}", validation, test)
    if len(rows) > 1 and len(set(names.values())) == 1:
        raise ConfigError(
            "all rows are one group: one customer, or texts that all resemble each other",
            hint="give rows of more customers, or leave the customer out where it is not one",
        )
    _purge(rows, parts, threshold, frozen)
    return Split(parts, seed, threshold)


def check_split(rows: Sequence[Row], split: Split) -> dict[str, Contamination]:
    """Return the contamination of validation and test rows by training rows."""
    train = [row for row in rows if split.of(row.id) == "train"]
    found = {}
    for part in ("validation", "test"):
        held = [row for row in rows if split.of(row.id) == part]
        if train and held:
            found[part] = contamination(train, held, threshold=split.threshold)
    return found


def _check_ids(rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise ConfigError(f"two rows are called {row.id!r}", hint="give each its own id")
        seen.add(row.id)
    if not rows:
        raise ConfigError("there is nothing to split", hint="give at least one row")


def _groups(rows: Sequence[Row], *, near: bool) -> Groups:
    groups = Groups()
    found = clusters((row.text for row in rows), ALIKE) if near else [0] * len(rows)
    for row, cluster in zip(rows, found, strict=True):
        key = f"row {row.id}"
        if near and row.text.strip():
            groups.join(key, f"text {cluster:09}")
        if row.conversation:
            groups.join(key, f"conversation {row.conversation}")
        if row.customer:
            groups.join(key, f"customer {row.customer}")
    return groups


def _draw(text: str, validation: float, test: float) -> Part:
    share = int(canonical.sha(text)[:13], 16) / 16**13
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def _purge(
    rows: Sequence[Row], parts: dict[str, Part], threshold: float | None, frozen: Split | None
) -> None:
    """Set aside what still resembles a row of training; frozen test rows push training rows out."""
    kept = frozen.parts if frozen else {}
    train = [row for row in rows if parts[row.id] == "train"]
    for part in ("validation", "test"):
        held = [row for row in rows if parts[row.id] == part]
        if not train or not held:
            continue
        for leak in contamination(train, held, threshold=threshold).leaks:
            parts[leak.test if leak.test not in kept else leak.train] = "unused"
