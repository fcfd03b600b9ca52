"""What the next call will be billed, from what every model's cache is known to hold.

A process begins with what the ledger tells: a session's recent calls, and the last calls that
showed the same shared layers. From then on it learns from every bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, select

from agentmesh import canonical
from agentmesh.economy.planner import MARKED_FAMILIES
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Outline, Point, Warmth, outline
from agentmesh.memory.render import parse_marks
from agentmesh.memory.tables import calls, epochs
from agentmesh.prompt import Prompt

if TYPE_CHECKING:
    from agentmesh.memory import Memory, Turn

EXPECTED_OUTPUT = 300
"""Tokens of an answer, until a session's own answers tell better."""

_RECENT = 20
_FORGET_ABOVE = 8_192


class Forecast:
    """Predicts what calls will be billed, and whether their shared prefix is cold."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._warmth = Warmth()
        self._known: set[tuple[Any, ...]] = set()
        self._lock = Lock()

    def seen(self, model: str, turn: Turn, prompt: Prompt) -> Outline:
        """Return a prompt's outline, having asked the ledger what is warm of it."""
        found = outline(prompt, turn.session)
        own = ("session", model, turn.session, turn.epoch.number)
        shared = ("shared", model, turn.epoch.shared)
        core = [segment for segment in prompt.segments if segment.name == "core"]
        with self._lock:
            if len(self._known) > _FORGET_ABOVE:
                self._known.clear()
            if shared not in self._known:
                self._known.add(shared)
                top = replace(prompt, segments=tuple(core), entries=(), tail="")
                self._remember(model, turn, top, _of_shared(turn))
            if own not in self._known:
                self._known.add(own)
                self._remember(model, turn, prompt, _of_session(turn))
        return found

    def usage(self, model: str, seen: Outline, prompt: Prompt, now: float) -> Usage:
        """Return the tokens that a call is expected to be billed for, by kind."""
        answers = [entry.tokens for entry in prompt.entries if entry.kind == "assistant"]
        output = sum(answers) // len(answers) if answers else EXPECTED_OUTPUT
        with self._lock:
            return replace(self._warmth.predict(model, seen, now).usage, output=output)

    def cold(self, model: str, seen: Outline, now: float) -> str | None:
        """Return the name of the shared prefix if it would have to be written; None if not."""
        rules = semantics(model)
        if rules.read_multiplier >= rules.write_multiplier:
            return None
        top = _shared(seen.points, marked=rules.family in MARKED_FAMILIES)
        if top is None or top.tokens < max(1, rules.minimum):
            return None
        points = seen.points[: seen.points.index(top) + 1]
        with self._lock:
            usage = self._warmth.predict(model, Outline(points, top.tokens + 1), now).usage
        return None if usage.read else top.key

    def begun(self, model: str, seen: Outline, at: float) -> None:
        """Note that the response to a call has begun: what it wrote can be read from now on."""
        with self._lock:
            self._warmth.note(model, seen, at)

    def billed(self, model: str, seen: Outline, usage: Usage, at: float) -> None:
        """Learn from a bill."""
        with self._lock:
            self._warmth.learn(model, seen, usage, at)

    def _remember(self, model: str, turn: Turn, prompt: Prompt, which: Any) -> None:
        """Note what recent calls of the ledger have left in the cache of a prompt like this."""
        rules = semantics(model)
        since = self._memory.clock() - (rules.long_ttl_s or rules.ttl_s)
        query: Select[Any] = (
            select(calls.c.head, calls.c.marks, calls.c.started_at)
            .join(
                epochs,
                and_(epochs.c.session_id == calls.c.session_id, epochs.c.number == calls.c.epoch),
            )
            .where(
                calls.c.tenant == self._memory.tenant,
                calls.c.model == model,
                calls.c.started_at > since,
                calls.c.fresh + calls.c.read + calls.c.write + calls.c.write_long > 0,
                which,
            )
            .order_by(calls.c.id.desc())
            .limit(_RECENT)
        )
        rows = self._memory.database.read(lambda c: c.execute(query).all())
        for row in reversed(rows):
            entries = tuple(entry for entry in prompt.entries if entry.seq <= row.head)
            past = replace(prompt, entries=entries, marks=parse_marks(row.marks))
            self._warmth.note(model, outline(past, turn.session), row.started_at)


def _of_session(turn: Turn) -> Any:
    return and_(calls.c.session_id == turn.view.id, calls.c.epoch == turn.epoch.number)


def _of_shared(turn: Turn) -> Any:
    return epochs.c.shared == canonical.dumps([list(layer) for layer in turn.epoch.shared])


def _shared(points: Sequence[Point], *, marked: bool) -> Point | None:
    """Return the end of the longest prefix that other sessions share and a cache can hold."""
    return next((p for p in reversed(points) if p.shared and (p.mark or not marked)), None)
