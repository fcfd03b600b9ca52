"""Feedback: what people and programs say of a turn, kept beside the log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.memory import tables

if TYPE_CHECKING:
    from agentmesh.memory import Memory


def give(
    memory: Memory,
    *,
    session: str,
    turn: int,
    score: float | None = None,
    label: str = "",
    comment: str = "",
) -> None:
    """Attach feedback to a turn; whatever is given later counts beside it.

    Args:
        memory: where the session is.
        session: whose turn it is.
        turn: its number, from 1.
        score: from 0 (bad) to 1 (good), or None.
        label: a word such as `solved`, at most 64 characters.
        comment: free text.

    Raises:
        InputError: there is no such turn, or nothing is said.
    """
    if score is not None and not (math.isfinite(score) and 0 <= score <= 1):
        raise InputError(f"score={score!r}", hint="a number from 0 (bad) to 1 (good)")
    if score is None and not label and not comment:
        raise InputError("the feedback says nothing", hint="give a score, a label or a comment")
    if len(label) > 64:
        raise InputError("the label is too long", hint="at most 64 characters")
    sessions = tables.sessions
    query = select(sessions.c.id, sessions.c.turn).where(
        sessions.c.tenant == memory.tenant, sessions.c.name == session, sessions.c.state != "erased"
    )
    row = memory.database.read(lambda c: c.execute(query).first())
    if row is None or not 1 <= turn <= row.turn:
        raise InputError(
            f"session {session!r} has no turn {turn!r}", hint="turns are numbered from 1"
        )
    values = {
        "tenant": memory.tenant,
        "session_id": row.id,
        "turn": turn,
        "score": score,
        "label": canonical.clean(label),
        "comment": canonical.clean(comment),
        "at": memory.clock(),
    }
    memory.database.write(lambda c: c.execute(insert(tables.feedback).values(values)))
    if score is not None:
        _observe(memory, row.id, turn, score)


def _observe(memory: Memory, session: int, turn: int, score: float) -> None:
    """Add a turn's first score to the evidence on the student that had its last word."""
    calls, feedback = tables.calls, tables.feedback
    given = select(func.count()).where(
        feedback.c.session_id == session, feedback.c.turn == turn, feedback.c.score.is_not(None)
    )
    made = (
        select(calls.c.decision)
        .where(calls.c.session_id == session, calls.c.turn == turn, calls.c.outcome == "ok")
        .where(calls.c.purpose == "act")
        .order_by(calls.c.id.desc())
        .limit(1)
    )
    first, decision = memory.database.read(
        lambda c: (c.execute(given).scalar_one() == 1, c.execute(made).scalar())
    )
    student = canonical.loads(decision).get("student") if decision else None
    if first and student and student["evidence"] == "feedback":
        from agentmesh.distill.lifecycle import Register

        Register(memory).observe(student["name"], student["version"], score)
