"""What a row of the table is, and where its data lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; `target` is a bound, at least or at most."""

    name: str
    value: float
    low: float
    high: float
    baseline: str
    target: float | None
    at_most: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure itself meets its target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


class Data:
    """The data folder; a missing file skips its measures."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a file of JSON lines."""
        path = self.root / name
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
