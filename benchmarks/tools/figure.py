"""What a row of the tools' table is."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `target` is a bound, at least or at most, if there is one."""

    part: str
    name: str
    value: float
    target: float | None = None
    at_most: bool = True
    unit: str = ""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure meets its target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def command(self) -> str:
        """What measures this figure alone."""
        return f"python -m benchmarks.tools {self.part}"

    @property
    def line(self) -> str:
        """The figure as a row of the table."""
        sign = "≤" if self.at_most else "≥"
        target = "" if self.target is None else f"{sign} {self._shown(self.target)}"
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[self.reached]
        row = f"{self.name:<68}{self._shown(self.value):>10}  {target:<10}{verdict:<13}{self.note}"
        return row.rstrip()

    def _shown(self, value: float) -> str:
        digits = 0 if float(value).is_integer() and not self.unit else 3 if not self.unit else 2
        return f"{value:,.{digits}f}{self.unit}"


def tell(text: str) -> None:
    """Say on stderr how far a measure is."""
    print(text, file=sys.stderr, flush=True)
