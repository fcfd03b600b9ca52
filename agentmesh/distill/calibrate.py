"""How sure a student must be, from how it does on calls that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agentmesh.distill.ensemble import threshold
from agentmesh.distill.evaluate import agree
from agentmesh.distill.student import Student
from agentmesh.distill.traces import Trace
from agentmesh.errors import ConfigError


class Gated(Student, Protocol):
    """A student that abstains below a threshold."""

    threshold: float


def calibrate(student: Gated, traces: Sequence[Trace], *, agreement: float = 0.95) -> float:
    """Set and return the least confidence from which a student agrees with its teacher as asked.

    Args:
        student: whose threshold is set; 1.01, so that it never answers, where none is enough.
        traces: calls that it was not trained on.
        agreement: with the teacher, on the calls that it answers.
    """
    import numpy as np

    if not traces or not 0 < agreement < 1:
        raise ConfigError(
            f"{len(traces)} calls, agreement={agreement!r}",
            hint="give held-out calls, and a share between 0 and 1",
        )
    before, student.threshold = student.threshold, 0.0
    try:
        guesses = [student.answer(trace.prompt, trace.tools) for trace in traces]
    except BaseException:
        student.threshold = before
        raise
    made = [(g, t) for g, t in zip(guesses, traces, strict=True) if g.answer is not None]
    sure = np.array([guess.confidence for guess, _ in made])
    right = np.array([agree(t.answer, g.answer or {}) for g, t in made], dtype=bool)
    student.threshold = threshold(sure, right, agreement) if made else 1.01
    return student.threshold
