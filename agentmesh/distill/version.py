"""A version of a student: its state, how it was made, what is to be expected of it, what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentmesh.errors import ConfigError, CorruptError

State = Literal["candidate", "shadow", "canary", "live", "retired"]

PRIOR_RUNS = 20.0
"""How many runs the prior of a new version counts for in its belief."""

GAP_RUNS = 50.0
"""How many runs of earlier versions it takes until half of their surprise is expected again."""

OTHERS = 0.25
"""What a run of another student counts for in a version's prior."""

LEAST_ANSWERED = 0.1
"""The share of the calls put to it that a student must answer: who answers less saves nothing."""

SURELY = 0.05
"""How unlikely its agreement must be, for a student that keeps to the asked one, to refuse it."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a student: its state, how it was made, what happened to it."""

    name: str
    version: int
    state: State
    facts: Mapping[str, Any]
    path: str
    sha: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The audit trail, oldest first: `at`, `from`, `to`, `by`, `why`."""
        return list(self.facts["events"])

    @property
    def belief(self) -> float | None:
        """The success to expect where it answers: its prior, moved by its own runs since."""
        prior = self.facts.get("prior")
        if prior is None:
            return None
        return moved(prior, *self.runs)

    @property
    def runs(self) -> tuple[int, float]:
        """How many runs it served since it was last moved, and how many of them succeeded."""
        watch = self.facts.get("watch") or {}
        return watch.get("runs", 0), watch.get("successes", 0.0)

    def intact(self) -> Version:
        """Return the version itself; CorruptError if its files changed since it was registered."""
        if fingerprint(self.path) != self.sha:
            raise CorruptError(
                f"the files of {self.name!r} version {self.version} changed since it was registered",
                hint="restore them, or roll back",
            )
        return self


def prior(name: str, measured: float, earlier: Sequence[Version]) -> float:
    """Return what to expect of a new version before its first run.

    What was measured beforehand, corrected by how much less (or more) than measured the runs of
    earlier versions succeeded: this student's own count fully, those of other students a quarter,
    and with few runs behind it the correction is small.
    """
    gap = weight = 0.0
    for version in earlier:
        before = version.facts.get("measured", {}).get("success")
        runs, successes = version.runs
        if before is None or not runs:
            continue
        share = 1.0 if version.name == name else OTHERS
        gap += share * (successes - before * runs)
        weight += share * runs
    return min(0.999, max(0.001, measured + gap / (weight + GAP_RUNS)))


def unfit(version: Version) -> str:
    """Return why a version is not to be promoted, by what was measured; "" if nothing says so."""
    measured, shadow = version.facts["measured"], version.facts.get("shadow") or {}
    calls, share = measured.get("calls", 0), measured.get("answered")
    if calls and share is not None:
        answered, asked = round(share * calls), measured.get("asked")
        if share < LEAST_ANSWERED:
            return _too_few(answered, calls, "held-out calls")
        right = round(measured["success"] * answered)
        if asked and _chance(right, answered, asked) < SURELY:
            return f"{right} of {answered} held-out answers agree, and {asked:.1%} are asked for"
    seen = shadow.get("seen", 0) if version.state == "shadow" else 0
    if seen and shadow["answered"] < LEAST_ANSWERED * seen:
        return _too_few(shadow["answered"], seen, "calls in the shadow")
    return ""


def _too_few(answered: int, calls: int, where: str) -> str:
    return f"answers {answered:,} of {calls:,} {where}, {LEAST_ANSWERED:.0%} are the least"


def _chance(right: int, answered: int, asked: float) -> float:
    """Return how likely so few right answers are where each one is right with the asked chance."""
    from scipy.stats import binom

    return float(binom.cdf(right, answered, asked))


def fingerprint(path: Path | str) -> str:
    """Return the SHA-256 of a student's file, or of all files of its folder."""
    path = Path(path)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise ConfigError(f"there is no student at {str(path)!r}", hint="train one first")
    for file in files:
        name = "" if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def moved(prior: float, runs: int, successes: float) -> float:
    """Return the belief in a version whose prior its runs have moved."""
    return float((prior * PRIOR_RUNS + successes) / (PRIOR_RUNS + runs))
