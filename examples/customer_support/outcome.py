"""Was the request solved? Decided by the database, the calls that were made and the reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from agentmesh.examples.customer_support.expect import Expect

_GERMAN = (
    " sie ",
    " ihre",
    " ihr ",
    " ist ",
    " wurde",
    " nicht",
    " ich ",
    " wir ",
    " unsere ",
    " geht ",
    " bitte ",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did: its reply, the tools it called, the actions that left a trace."""

    reply: str
    called: Sequence[str] = ()
    writes: Sequence[str] = ()
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a request is solved, and otherwise why not."""

    solved: bool
    why: str = ""


def judge(expect: Expect, turn: Turn, engine: Engine) -> Outcome:
    """Return whether a turn solved its request, read from the database right after it."""
    for problem in (
        _reply_problem(expect, turn),
        _call_problem(expect, turn),
        _fact_problem(expect, engine),
    ):
        if problem:
            return Outcome(False, problem)
    return Outcome(True)


def last_action(engine: Engine) -> int:
    """Return the number of the desk's last action."""
    with engine.connect() as db:
        return int(
            db.execute(text("select coalesce(max(rowid), 0) from desk_actions")).scalar_one()
        )


def actions_since(engine: Engine, last: int) -> tuple[str, ...]:
    """Return the tools that acted after an action."""
    query = text("select tool from desk_actions where rowid > :last order by rowid")
    with engine.connect() as db:
        return tuple(str(tool) for tool in db.execute(query, {"last": last}).scalars())


def _reply_problem(expect: Expect, turn: Turn) -> str:
    said = f" {turn.reply.casefold()} "
    if not said.strip():
        return "the reply is empty"
    for group in expect.says:
        if not any(words.casefold() in said for words in group):
            return f"the reply names none of: {', '.join(group)}"
    for words in expect.never:
        if words.casefold() in said:
            return f"the reply must not say {words!r}"
    if expect.language == "de" and not any(word in said for word in _GERMAN):
        return "the reply is not in German, which the profile names"
    return ""


def _call_problem(expect: Expect, turn: Turn) -> str:
    if expect.quiet and turn.called:
        return f"{turn.called[0]} was called for nothing"
    for tool in expect.called:
        if tool not in turn.called:
            return f"{tool} was not called"
    if Counter(turn.writes) != Counter(expect.writes):
        done = ", ".join(turn.writes) or "nothing"
        return f"did {done} instead of {', '.join(expect.writes) or 'nothing'}"
    return ""


def _fact_problem(expect: Expect, engine: Engine) -> str:
    with engine.connect() as db:
        for fact in expect.facts:
            found = db.execute(text(fact.sql), dict(fact.values)).scalar()
            if found != fact.expected:
                return f"the database says {found!r}, not {fact.expected!r} ({fact.sql})"
    return ""
