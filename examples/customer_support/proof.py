"""What the loop of distillation on the support desk has shown: its phases, figures and report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.distill import Comparison, Loop, Run, Version


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it went: which tiers' drafts were accepted, in order, and what it cost.

    `actions` are what those drafts did: the tools that they called, or `say`.
    """

    inquiry: int
    session: str
    text: str
    solved: bool
    tiers: tuple[str, ...]
    cost: int
    steps: int
    note: str = ""
    actions: tuple[str, ...] = ()

    @property
    def by_student(self) -> bool:
        """Whether every accepted draft was the student's."""
        return bool(self.tiers) and set(self.tiers) == {"student"}


@dataclass(frozen=True, slots=True)
class Phase:
    """What came in during a part of the student's life, and how it went."""

    name: str
    served: tuple[Served, ...]

    @property
    def answered(self) -> list[Served]:
        """The requests that a tier answered: spam that was blocked is left out."""
        return [one for one in self.served if one.tiers]

    def share(self) -> float:
        """Return the share of answered requests that the student served alone."""
        return sum(one.by_student for one in self.answered) / max(1, len(self.answered))

    def success(self) -> float:
        """Return the share of all requests that were solved."""
        return sum(one.solved for one in self.served) / max(1, len(self.served))

    def cost(self) -> int:
        """Return what all requests cost, in micro-dollars."""
        return sum(one.cost for one in self.served)

    def actions(self) -> list[dict[str, Any]]:
        """Return, for each action, how many steps took it, and the share that the student took."""
        steps: dict[str, Counter[str]] = defaultdict(Counter)
        for one in self.served:
            for action, tier in zip(one.actions, one.tiers, strict=True):
                steps[action][tier] += 1
        rows = sorted(steps.items(), key=lambda item: (-item[1].total(), item[0]))
        return [
            {
                "action": action,
                "steps": tiers.total(),
                "by the student": tiers["student"] / tiers.total(),
            }
            for action, tiers in rows
        ]

    def runs(self) -> list[Run]:
        """Return the requests as runs, to be compared with another phase's."""
        from agentmesh.distill import Run

        return [
            Run(
                f"{one.inquiry}: {one.text}",
                float(one.solved),
                one.steps,
                cost=one.cost / 1e6,
                note=one.note,
            )
            for one in self.served
        ]

    def row(self) -> dict[str, Any]:
        """Return the phase as a row of a table."""
        solved = sum(one.solved for one in self.served)
        return {
            "phase": self.name,
            "requests": len(self.served),
            "answered": len(self.answered),
            "by the student": self.share(),
            "solved": self.success(),
            "dollars": self.cost() / 1e6,
            "dollars per solved": self.cost() / 1e6 / max(1, solved),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """The whole life of the student: its phases, how it was trained, and where it ended.

    `refused` says why it did not get further than it did; "" where it was live.
    """

    phases: tuple[Phase, ...]
    loop: Loop
    version: Version
    unseen: frozenset[str]
    comparison: Comparison
    refused: str = ""

    def phase(self, name: str) -> Phase:
        """Return a phase by its name."""
        return next(phase for phase in self.phases if phase.name == name)

    def page(self) -> str:
        """Return the report as a page that needs nothing else."""
        from agentmesh.distill.plots import bars, line
        from agentmesh.distill.report import page

        rows = [phase.row() for phase in self.phases]
        pictures = [
            line(
                "The student on held-out calls",
                self.loop.held.curve,
                "share answered",
                "agreement with the flagship",
            ),
            bars("Dollars per solved request", {r["phase"]: r["dollars per solved"] for r in rows}),
            bars("Solved", {r["phase"]: r["solved"] for r in rows}, "{:.1%}"),
            bars(
                "Served by the student", {r["phase"]: r["by the student"] for r in rows}, "{:.1%}"
            ),
            bars(
                "Taken by the student, of the steps of the same requests",
                {a["action"]: a["by the student"] for a in self.phase("again").actions()[:12]},
                "{:.1%}",
            ),
        ]
        return page(self.comparison, pictures=pictures)

    def figures(self) -> dict[str, float]:
        """Return what the loop is measured by.

        The cost is that of the requests in which the student gave the last word, over what the
        same requests had cost the flagship; of what failed on the way everything is counted.
        """
        before = {one.inquiry: one for one in self.phase("flagship").served}
        again = self.phase("again")
        ended = [one for one in again.answered if one.tiers[-1] == "student"]
        mine = sum(one.cost for one in ended)
        theirs = sum(before[one.inquiry].cost for one in ended)
        new = [one for one in again.served if one.session in self.unseen]
        old = [before[one.inquiry] for one in new]
        return {
            "share served by the student": again.share(),
            "success of the flagship": self.phase("flagship").success(),
            "success with the student": again.success(),
            "cost over the flagship's, requests it serves": mine / max(1, theirs),
            "cost over the flagship's, all requests": again.cost()
            / max(1, self.phase("flagship").cost()),
            "held-out requests": float(len(new)),
            "share served, held out": _share(one.by_student for one in new if one.tiers),
            "success of the flagship, held out": _share(one.solved for one in old),
            "success with the student, held out": _share(one.solved for one in new),
        }


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))
