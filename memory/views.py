"""Views: what a tier may see of each bucket and of the log.

A view is applied when a prompt is rendered; the log itself is one. What a view shows is a pure
function of the epoch, the log and the turn, so that a call that names its view can be rebuilt. A
window over the turns moves in steps: between two steps what a tier sees only grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from agentmesh import canonical
from agentmesh.economy.tokens import count
from agentmesh.errors import ConfigError
from agentmesh.memory.epochs import Epoch
from agentmesh.prompt import Entry
from agentmesh.toolview import KIND


@dataclass(frozen=True, slots=True)
class View:
    """What a tier sees: everything, unless said otherwise.

    >>> View(profile=False, history_turns=4).first_turn(12)
    9

    Args:
        org: whether it sees what is known about the organisation.
        profile: whether it sees what is known about the user.
        task: whether it sees what is known about the task.
        digest: whether it sees the account of what was compacted.
        history_turns: the most turns that it sees word for word, this one included; None for all.
        history_step: how many turns leave the window at once, half of it if left out: a window
            that moved with every turn would find nothing cached.
    """

    org: bool = True
    profile: bool = True
    task: bool = True
    digest: bool = True
    history_turns: int | None = None
    history_step: int | None = None

    def __post_init__(self) -> None:
        for name in ("org", "profile", "task", "digest"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r}", hint="True or False")
        turns, step = self.history_turns, self.history_step
        if turns is not None and (not isinstance(turns, int) or turns < 1):
            raise ConfigError(f"history_turns={turns!r}", hint="1 or more, or None for all")
        if step is not None and (not isinstance(step, int) or not 1 <= step <= (turns or 0)):
            raise ConfigError(f"history_step={step!r}", hint="from 1 to history_turns")

    @property
    def whole(self) -> bool:
        """Whether the view hides nothing."""
        return not self.hidden and self.history_turns is None

    @property
    def hidden(self) -> frozenset[str]:
        """The segments that are not shown."""
        names = ("org", "profile", "task", "digest")
        return frozenset(name for name in names if not getattr(self, name))

    def first_turn(self, turn: int) -> int:
        """Return the first turn that is seen in a turn."""
        if self.history_turns is None or turn <= self.history_turns:
            return 1
        step = self.history_step or (self.history_turns + 1) // 2
        return -(-(turn - self.history_turns) // step) * step + 1

    def epoch(self, epoch: Epoch) -> Epoch:
        """Return an epoch as it is seen."""
        hidden = self.hidden
        if not hidden:
            return epoch
        return replace(epoch, segments=tuple(s for s in epoch.segments if s.name not in hidden))

    def entries(self, shown: Iterable[Entry], turn: int) -> list[Entry]:
        """Return a log as it is seen in a turn.

        A note of an edit outlives the turn in which it was made: no later text repeats it. So
        does a change of the tools.
        """
        first, hidden = self.first_turn(turn), self.hidden
        seen: list[Entry] = []
        for entry in shown:
            if entry.kind == "note":
                note = _note(entry, hidden) if hidden else entry
                seen += [note] if note is not None else []
            elif entry.turn >= first or entry.kind == KIND:
                seen.append(entry)
        return seen

    def text(self) -> str:
        """Return the view as canonical JSON: what differs from seeing everything."""
        plain = asdict(EVERYTHING)
        return canonical.dumps({k: v for k, v in asdict(self).items() if v != plain[k]})

    @classmethod
    def parse(cls, text: str) -> View:
        """Return the view of a text made by `text`."""
        return cls(**canonical.loads(text))


EVERYTHING = View()


@lru_cache(maxsize=1024)
def _note(entry: Entry, hidden: frozenset[str]) -> Entry | None:
    """Return a note without the lines on what is hidden; None if no other is left."""
    kept = []
    for block in entry.blocks:
        lines = [ln for ln in block["text"].split("\n") if ln.partition(".")[0] not in hidden]
        if any(not line.startswith("<") for line in lines):
            kept.append({"type": "text", "text": "\n".join(lines)})
    if not kept:
        return None
    body = canonical.dumps({"blocks": kept})
    return replace(entry, body=body, tokens=sum(count(block["text"]) for block in kept))
