"""What a session has shown of its tiers so far, and what is to be expected of its rest.

Everything is read from the ledger and the log, so that every process that goes on with a session
decides alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from agentmesh import canonical
from agentmesh.economy.planner import SHARED
from agentmesh.memory.tables import calls, epochs
from agentmesh.routing import Outlook, Streak
from agentmesh.routing.streak import LIKE_STEPS

if TYPE_CHECKING:
    from agentmesh.memory import Turn

WORDS = "words"
"""Under which a call's decision keeps what the words alone say of the tiers' chances."""

_LATELY = 64


@dataclass
class Session:
    """A session as its router knows it: the lower tiers' streaks, its steps, who shares its cache.

    `sharers` are the sessions that showed the same shared layers lately, this one included.
    """

    streaks: Mapping[str, Streak]
    steps: int = 0
    turn: int = 0
    sharers: int = 1
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def load(
        cls, connection: Connection, turn: Turn, lower: Sequence[str], since: float
    ) -> Session:
        """Return a session as its last steps before this turn, and this turn's, tell."""
        session = cls({name: Streak() for name in lower}, sharers=_sharers(connection, turn, since))
        mine = (calls.c.session_id == turn.view.id, calls.c.purpose == "act")
        told = select(calls.c.turn, calls.c.step, calls.c.tier, calls.c.outcome, calls.c.decision)
        past = told.where(*mine, calls.c.turn < turn.number).order_by(calls.c.id.desc())
        here = told.where(*mine, calls.c.turn == turn.number).order_by(calls.c.id)
        rows = [*reversed(connection.execute(past.limit(LIKE_STEPS)).all())]
        rows += connection.execute(here).all()
        for (number, _), step in groupby(rows, key=lambda row: (row.turn, row.step)):
            drafts = list(step)
            words = canonical.loads(drafts[0].decision).get(WORDS)
            if words is None:
                continue
            session.begun(number, words)
            for row in drafts:
                if row.outcome == "ok" or row.outcome.startswith("check:"):
                    session.drafted(row.tier, passed=row.outcome == "ok")
        return session

    def begun(self, turn: int, words: Mapping[str, float]) -> dict[str, float]:
        """Return the lower tiers' chances at a new step, given what its words alone say."""
        again, self.turn = turn == self.turn, turn
        self.steps += 1
        self._seen.clear()
        named = {name: streak for name, streak in self.streaks.items() if name in words}
        return {name: streak.chance(words[name], again=again) for name, streak in named.items()}

    def drafted(self, tier: str, *, passed: bool) -> None:
        """Note how a tier's first draft of this step went."""
        if tier in self.streaks and tier not in self._seen:
            self._seen.add(tier)
            self.streaks[tier].saw(passed=passed)

    def outlook(self, base: Outlook, turn: Turn) -> Outlook:
        """Return what is expected of the rest of the session.

        It is taken to go on for as long as it has, and for `base.steps` at least; its steps to be
        as long as they were, and the tiers to do at them as they did at the last ones.
        """
        shown = turn.view.shown
        told = [entry.tokens for entry in shown if entry.kind == "assistant"]
        heard = sum(entry.tokens for entry in shown if entry.kind in ("user", "tool"))
        likely = [streak.later[-max(1, self.steps) :] for streak in self.streaks.values()]
        later = [dict(zip(self.streaks, row, strict=True)) for row in zip(*likely, strict=True)]
        return replace(
            base,
            steps=max(base.steps, float(self.steps)),
            new_tokens=heard / len(told) if told else base.new_tokens,
            output_tokens=sum(told) / len(told) if told else base.output_tokens,
            later=later,
            shared_tokens=sum(tokens for name, tokens in turn.epoch.tokens if name in SHARED),
            sharers=float(self.sharers),
        )


def _sharers(connection: Connection, turn: Turn, since: float) -> int:
    """Count the sessions among the last calls that show this epoch's shared layers."""
    same = epochs.c.shared == canonical.dumps([list(layer) for layer in turn.epoch.shared])
    on = (epochs.c.session_id == calls.c.session_id) & (epochs.c.number == calls.c.epoch)
    query: Any = (
        select(calls.c.session_id)
        .join(epochs, on)
        .where(same, calls.c.started_at > since)
        .order_by(calls.c.id.desc())
        .limit(_LATELY)
    )
    return len({turn.view.id, *connection.execute(query).scalars()})


__all__ = ["WORDS", "Session"]
