"""The loop in one call: select, split, check for leaks, train, measure on what was held out, register."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.distill.clusters import REWORDED
from agentmesh.distill.evaluate import agree
from agentmesh.distill.leaks import rows_of
from agentmesh.distill.lifecycle import Register
from agentmesh.distill.limits import resources
from agentmesh.distill.log import read_traces
from agentmesh.distill.selection import Policy, fault, select
from agentmesh.distill.splits import Split, check_split, split
from agentmesh.distill.terms import check_terms
from agentmesh.distill.traces import Trace
from agentmesh.distill.training import Classifier, Stage, Trainer, one_line
from agentmesh.distill.version import Version
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.distill.student import Student
    from agentmesh.memory import Memory


@dataclass(frozen=True, slots=True)
class Held:
    """A student on calls that it never saw: `agreement` is on those that it answered."""

    calls: int
    answered: float
    agreement: float
    latency_ms: float
    worst: tuple[tuple[str, str, str], ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    """Shares answered and the agreement there, if the surest answers alone were given."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What one turn of the loop made: the version, what was kept and why, what was measured."""

    version: Version
    held: Held
    baseline: float
    reasons: dict[str, int]
    parts: dict[str, int]


@resources()
def distil(
    memory: Memory,
    out: Path | str,
    *,
    name: str = "student",
    trainer: Trainer | None = None,
    policy: Policy | None = None,
    agreement: float = 0.95,
    margin: float = 0.0,
    permission: str = "",
    threshold: float | None = REWORDED,
    frozen: Split | None = None,
    by: str = "",
    stage: Stage | None = None,
) -> Loop:
    """Train a student on a memory's calls and register it as a measured candidate.

    What is live is not touched, whatever goes wrong here.

    Args:
        memory: whose calls are learned from.
        out: folder for the student's file and the split.
        name: of the student.
        trainer: of which kind of student; a classifier's if left out.
        policy: what is worth learning from.
        agreement: with the teacher, on the steps that the student answers.
        margin: how much lower than its teacher's its success may be while it serves.
        permission: see `check_terms`.
        threshold: see `split`; None where the same request is made again and again.
        frozen: an earlier split, whose rows stay where they are.
        by: who does it, for the audit trail.
        stage: is told about the progress.

    Raises:
        ConfigError: nothing to learn from, terms that forbid it, or a leak between the parts.
    """
    told = stage or (lambda what, done, total: None)
    reasons: Counter[str] = Counter()
    policy, trainer = policy or Policy(), trainer or Classifier(agreement)
    good, tried, sound = [], 0, 0
    passes = iter(("reading", "choosing"))

    def source() -> Iterator[Trace]:
        what = next(passes)
        return read_traces(memory, progress=lambda done, total: told(what, done, total))

    for choice in select(source, policy):
        reasons[choice.reason] += 1
        if choice.trace.tier not in policy.students:
            tried += 1
            sound += not fault(choice.trace, policy)
        if choice.kept:
            good.append(choice.trace)
    if not good:
        raise ConfigError(
            "there is no positive trace to learn from",
            hint="; ".join(f"{n} times: {why}" for why, n in reasons.most_common(3)) or "no calls",
        )
    teachers = (trace.teacher for trace in good)
    ruling = check_terms(teachers, trainer.licence, permission=permission)
    told("splitting", 0, 1)
    rows = rows_of(good)
    parts = split(rows, frozen=frozen, threshold=threshold, validation=trainer.tuned, test=0.2)
    for report in check_split(rows, parts).values():
        report.check()
    learned = [trace for trace in good if parts.of(trace.conversation) == "train"]
    held = [trace for trace in good if parts.of(trace.conversation) == "test"]
    if not learned or not held:
        raise ConfigError(
            f"{len(learned)} calls to learn from and {len(held)} held out",
            hint="give more conversations, or allow requests that resemble each other (--no-near)",
        )
    tuned = [trace for trace in good if parts.of(trace.conversation) == "validation"]
    register = Register(memory)
    stem = Path(out) / f"{name}-{len(register.versions(name)) + 1}"
    student, path, facts = trainer.fit(learned, tuned, stem, ruling, told)
    told("measuring", 0, 1)
    found = measure(student, held)
    baseline = sound / max(1, tried)
    parts.save(stem.with_name(f"{stem.name}.split.json"))
    version = register.add(
        name,
        path,
        trained={
            **facts,
            "split": parts.sha,
            "terms": ruling.teachers,
            "permission": permission,
        },
        measured={
            "success": found.agreement,
            "baseline": max(0.02, baseline),
            "margin": margin,
            "asked": agreement,
            "answered": found.answered,
            "calls": found.calls,
            "latency_ms": found.latency_ms,
        },
        by=by,
    )
    sizes = Counter(str(parts.of(row.id)) for row in rows)
    return Loop(version, found, baseline, dict(reasons), dict(sizes))


def measure(student: Student, traces: Sequence[Trace]) -> Held:
    """Return how a student does on calls, and the worst of its answers beside the teacher's."""
    import time

    if not traces:
        raise ConfigError("there is nothing to measure on", hint="hold conversations out")
    began = time.perf_counter()
    guesses = [student.answer(trace.prompt, trace.tools) for trace in traces]
    spent = time.perf_counter() - began
    made = [(t, g) for t, g in zip(traces, guesses, strict=True) if g.answer is not None]
    wrong = [(t, g) for t, g in made if not agree(t.answer, g.answer or {})]
    wrong.sort(key=lambda pair: -pair[1].confidence)
    return Held(
        calls=len(traces),
        answered=len(made) / len(traces),
        agreement=1 - len(wrong) / len(made) if made else 0.0,
        latency_ms=1_000 * spent / len(traces),
        worst=tuple((t.asked, one_line(t.answer), one_line(g.answer or {})) for t, g in wrong[:10]),
        curve=_curve(student, traces),
    )


def _curve(student: Student, traces: Sequence[Trace]) -> tuple[tuple[float, float], ...]:
    """Return the agreement by the share that is answered, from a few answers to all."""
    gated = getattr(student, "threshold", None)
    if gated is None or student.kind != "classifier":  # asking once more costs time or money
        return ()
    student.threshold = 0.0  # type: ignore[attr-defined]  # it was just found there
    try:
        guesses = [student.answer(trace.prompt, trace.tools) for trace in traces]
    finally:
        student.threshold = gated  # type: ignore[attr-defined]
    pairs = sorted(zip(guesses, traces, strict=True), key=lambda pair: -pair[0].confidence)
    right = [g.answer is not None and agree(t.answer, g.answer) for g, t in pairs]
    counts = sorted({max(1, round(len(right) * i / 20)) for i in range(1, 21)})
    return tuple((n / len(right), sum(right[:n]) / n) for n in counts)
