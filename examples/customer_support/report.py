"""What the demo found: one row for each design, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentmesh.economy.usage import Usage

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Row:
    """One design's traffic: tokens and money from the emulator's bills, the rest as it happened.

    `steps` counts model calls, refused drafts included; `by_model` says who made them.
    """

    design: str
    requests: int
    steps: int
    usage: Usage
    escalations: int
    blocked: int
    spam: int
    spam_blocked: int
    solved: int
    cost_micro: int
    seconds: float
    by_model: Mapping[str, int] = field(default_factory=dict)
    unsolved: Mapping[str, int] = field(default_factory=dict)
    caught: Mapping[str, int] = field(default_factory=dict)

    @property
    def read_share(self) -> float:
        """The share of all input tokens that was read from a cache."""
        return self.usage.read / self.usage.input if self.usage.input else 0.0

    @property
    def usd(self) -> float:
        """What the traffic cost, in dollars."""
        return self.cost_micro / 1_000_000

    @property
    def requests_per_usd(self) -> float | None:
        """Requests for a dollar, solved or not; None where nothing was billed."""
        return self.requests / self.usd if self.cost_micro else None

    def to_json(self) -> dict[str, Any]:
        """Return the row for JSON."""
        written = self.usage.write + self.usage.write_long
        return {
            "design": self.design,
            "requests": self.requests,
            "steps": self.steps,
            "tokens": {
                "fresh": self.usage.fresh,
                "written": written,
                "read": self.usage.read,
                "out": self.usage.output,
            },
            "read_share": round(self.read_share, 4),
            "escalations": self.escalations,
            "blocked": self.blocked,
            "spam": self.spam,
            "spam_blocked": self.spam_blocked,
            "solved": self.solved,
            "usd": round(self.usd, 6),
            "requests_per_usd": None
            if self.requests_per_usd is None
            else round(self.requests_per_usd, 1),
            "seconds": round(self.seconds, 2),
            "steps_by_model": dict(sorted(self.by_model.items())),
            "refused_drafts": dict(sorted(self.caught.items())),
            "unsolved": dict(sorted(self.unsolved.items())),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of a run, and what was assumed."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    seed: int = 7

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "seed": self.seed,
            "designs": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
        }

    def table(self) -> RenderableType:
        """Return the report as a table for a terminal: one column for each design."""
        from rich.box import SIMPLE
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="The same support traffic under each design", box=SIMPLE)
        table.add_column("", no_wrap=True)
        for row in self.rows:
            table.add_column(row.design, justify="right")
        first = self.rows[0].cost_micro if self.rows else 0
        cells = [_cells(row, first) for row in self.rows]
        for place, name in enumerate(_MEASURES):
            table.add_row(name, *(column[place] for column in cells))
        return Group(table, *(Text(f"- {note}") for note in self.notes))


_MEASURES = (
    "requests",
    "steps",
    "tokens fresh",
    "tokens written",
    "tokens read",
    "tokens out",
    "read from cache",
    "escalated",
    "blocked",
    "solved",
    "dollars",
    "of the first",
    "per dollar",
)


def _cells(row: Row, first: int) -> Sequence[str]:
    per_dollar = row.requests_per_usd
    return (
        f"{row.requests:,}",
        f"{row.steps:,}",
        f"{row.usage.fresh:,}",
        f"{row.usage.write + row.usage.write_long:,}",
        f"{row.usage.read:,}",
        f"{row.usage.output:,}",
        f"{row.read_share:.1%}",
        f"{row.escalations:,}",
        f"{row.blocked:,}",
        f"{row.solved / row.requests:.1%}" if row.requests else "-",
        f"{row.usd:.4f}",
        f"{row.cost_micro / first:.1%}" if first else "-",
        f"{per_dollar:,.0f}" if per_dollar is not None else "-",
    )


def total(usages: Sequence[Usage]) -> Usage:
    """Return the sum of usages."""
    whole = Usage()
    for usage in usages:
        whole += usage
    return whole


def counted(names: Sequence[str]) -> dict[str, int]:
    """Return how often each name occurs."""
    return dict(Counter(names))
