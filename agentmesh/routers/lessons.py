"""What the ledger teaches a router: how the cheap tier did, and what people said of blocks.

Text is taken from the customer's own words alone; what tools said is never read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError
from agentmesh.memory.tables import entries, feedback, sessions
from agentmesh.routing.steps import KINDS

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory

REVIEW = "review:"
"""Feedback with such a label says what a message really was."""
GOOD = 0.5
"""Feedback below it says that a turn has failed."""


class Lesson(NamedTuple):
    """What became of one turn that the cheap tier began: did it pass, and had the strong one?"""

    session: str
    turn: int
    text: str
    passed: bool
    strong: bool
    at: float


class Lessons(NamedTuple):
    """The lessons on `tier`, oldest first."""

    tier: str
    rows: list[Lesson]


class Said(NamedTuple):
    """A customer's message, how it was received, and what a person said of that since."""

    session: str
    turn: int
    text: str
    at: float
    blocked: bool
    verdict: Mapping[str, Any]
    label: str = ""
    by: str = ""
    why: str = ""

    @property
    def id(self) -> str:
        """What `agentmesh route review` calls it."""
        return f"{self.session}:{self.turn}"


def lessons(memory: Memory, *, tier: str = "", agent: str = "") -> Lessons:
    """Return what became of the turns that the cheap tier began.

    A turn passes if all of the tier's drafts were accepted, no other tier had to help, and no
    feedback says otherwise; a vendor's failure says nothing of the tier and is left out.

    Args:
        memory: whose ledger it is.
        tier: the cheap tier; by default the one from which most steps were escalated.
        agent: only this agent's turns.
    """
    by_turn = _turns(memory, agent)
    tier = _cheap(by_turn, tier)
    graded, texts = scores(memory), {(s.session, s.turn): s for s in said(memory)}
    ended = statuses(memory)
    rows = []
    for key, made in by_turn.items():
        message = texts.get(key)
        passed = _passed(made, tier, graded.get(key))
        if message is None or passed is None or ended.get(key) not in ("done", "fallback"):
            continue
        done = ended[key] == "done" and graded.get(key, 1.0) >= GOOD
        rows.append(Lesson(*key, message.text, passed, passed or done, message.at))
    return Lessons(tier, sorted(rows, key=lambda row: row.at))


def cheap_tier(memory: Memory, *, tier: str = "", agent: str = "") -> str:
    """Return the tier that is to be learned about: the one named, or the most escalated from."""
    return _cheap(_turns(memory, agent), tier)


def said(memory: Memory) -> list[Said]:
    """Return every message of every customer, oldest first."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for session, turn, kind, body, at in records(memory, ("user", "blocked", "verdict", "end")):
        row = found.setdefault((session, turn), {"verdict": {}, "text": ""})
        if kind in ("user", "blocked") and "at" not in row:
            row |= {"at": at, "blocked": kind == "blocked"}
        if kind in ("user", "blocked"):
            words = [block.get("text", "") for block in body["blocks"]]
            row["text"] = "\n".join(filter(None, [row["text"], *words]))
        elif kind == "verdict":
            row["verdict"] = body["verdict"]
        elif str(body.get("status", "")).startswith("blocked:") and not row["verdict"]:
            row["verdict"] = {"kind": body["status"].removeprefix("blocked:")}
    reviews = _reviews(memory)
    return [
        Said(session, turn, **row)._replace(**reviews.get((session, turn), {}))
        for (session, turn), row in sorted(found.items(), key=lambda item: item[1].get("at", 0.0))
        if "at" in row
    ]


def review(memory: Memory, message: str, label: str, *, by: str, why: str) -> Said:
    """Say what a message really was; the last word counts. Returns the message.

    Args:
        memory: where it is.
        message: its id, `SESSION:TURN`.
        label: a request kind; `spam` and `off-topic` say that the block was right.
        by: who says so.
        why: for what reason.
    """
    from agentmesh.distill import give

    if label not in KINDS:
        raise ConfigError(f"{label!r} is no request kind", hint=f"kinds are {', '.join(KINDS)}")
    if not by or not why:
        raise ConfigError(f"by={by!r}, why={why!r}", hint="say who says so, and for what reason")
    session, _, number = message.rpartition(":")
    known = {one.id: one for one in said(memory)}
    if message not in known:
        raise InputError(
            f"there is no message {message!r}", hint="SESSION:TURN, see: agentmesh route review"
        )
    comment = canonical.dumps({"by": by, "why": why})
    give(memory, session=session, turn=int(number), label=REVIEW + label, comment=comment)
    return known[message]._replace(label=label, by=by, why=why)


def _turns(memory: Memory, agent: str) -> dict[tuple[str, int], list[Call]]:
    """Return the drafts of each turn, oldest first."""
    by_turn: dict[tuple[str, int], list[Call]] = defaultdict(list)
    for call in memory.ledger.calls():
        if call.purpose == "act" and agent in ("", call.agent):
            by_turn[call.session, call.turn].append(call)
    return by_turn


def _cheap(by_turn: Mapping[tuple[str, int], Sequence[Call]], tier: str) -> str:
    known = {call.tier for made in by_turn.values() for call in made}
    if tier and known and tier not in known:
        raise ConfigError(
            f"the ledger has no tier {tier!r}", hint=f"tiers: {', '.join(sorted(known))}"
        )
    return tier or _escalated_from(by_turn)


def _escalated_from(by_turn: Mapping[tuple[str, int], Sequence[Call]]) -> str:
    """Return the tier that steps were escalated from most often."""
    found: Counter[str] = Counter()
    for made in by_turn.values():
        for before, after in pairwise(made):
            if before.step == after.step and before.tier != after.tier:
                found[before.tier] += before.outcome != "ok"
    if not +found:
        raise ConfigError(
            "no step was ever escalated: which tier is the cheap one?", hint="give --tier NAME"
        )
    return found.most_common(1)[0][0]


def _passed(made: Sequence[Call], tier: str, score: float | None) -> bool | None:
    """Return whether the tier did a turn by itself; None if that turn says nothing of it."""
    if not made or made[0].tier != tier:
        return None
    mine = [call.outcome for call in made if call.tier == tier]
    if any(outcome.startswith("check:") for outcome in mine):
        return False
    if any(outcome != "ok" for outcome in mine) or any(call.tier != tier for call in made):
        return None
    return score is None or score >= GOOD


def scores(memory: Memory) -> dict[tuple[str, int], float]:
    """Return the mean score of each turn that has one."""
    given: dict[tuple[str, int], list[float]] = defaultdict(list)
    for session, turn, score, _label, _comment in _feedback(memory):
        if score is not None:
            given[session, turn].append(score)
    return {key: sum(scores) / len(scores) for key, scores in given.items()}


def _reviews(memory: Memory) -> dict[tuple[str, int], dict[str, Any]]:
    found = {}
    for session, turn, _score, label, comment in _feedback(memory):
        if label.startswith(REVIEW):
            told = canonical.loads(comment)
            found[session, turn] = {"label": label.removeprefix(REVIEW), **told}
    return found


def _feedback(memory: Memory) -> list[Any]:
    columns = (sessions.c.name, feedback.c.turn, feedback.c.score)
    query = (
        select(*columns, feedback.c.label, feedback.c.comment)
        .join(sessions, sessions.c.id == feedback.c.session_id)
        .where(feedback.c.tenant == memory.tenant)
        .order_by(feedback.c.id)
    )
    return memory.database.read(lambda c: list(c.execute(query)))


def statuses(memory: Memory) -> dict[tuple[str, int], str]:
    """Return how each turn has ended."""
    return {
        (session, turn): str(body.get("status", ""))
        for session, turn, _kind, body, _at in records(memory, ("end",))
        if body.get("status") != "maintained"
    }


def records(memory: Memory, kinds: Sequence[str]) -> list[tuple[str, int, str, Any, float]]:
    """Return the log's records of some kinds: session, turn, kind, body and time."""
    query = (
        select(sessions.c.name, entries.c.turn, entries.c.kind, entries.c.body, entries.c.at)
        .join(sessions, sessions.c.id == entries.c.session_id)
        .where(entries.c.tenant == memory.tenant, entries.c.kind.in_(kinds))
        .order_by(entries.c.session_id, entries.c.seq)
    )
    rows = memory.database.read(lambda c: list(c.execute(query)))
    return [(row.name, row.turn, row.kind, canonical.loads(row.body), row.at) for row in rows]
