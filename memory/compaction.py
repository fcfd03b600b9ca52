"""Rolling history: when the log is cut, where, and how its older part stays in reach.

Compaction has hysteresis: the log grows to a high-water mark and is then cut once to a low one,
where both come from the model's prices and the session's own growth. What is cut is not lost: a
digest of it is frozen into the prefix, and every word stays in the log, where it can be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmesh.economy.cost_model import Rates, water_marks
from agentmesh.economy.semantics import semantics
from agentmesh.errors import ConfigError
from agentmesh.memory.sessions import Record
from agentmesh.prompt import Entry

INSTRUCTION = """\
The conversation above is about to be shortened: what comes before the last messages will be \
replaced by your account of it. Write that account now, in at most {words} words, as notes for \
whoever goes on: who the user is and what they want; what was found out, with every number, name, \
date and identifier word for word; what was done and decided; what was promised and is still open. \
Keep what an earlier <digest> says and still matters. State nothing that was not said. Call no \
tool; answer with the notes alone."""
"""Appended last to the very prompt that is in the cache, so that the digest's call reads it."""

WORDS_PER_TOKEN = 0.7


@dataclass(frozen=True, slots=True)
class Compaction:
    """How a session's log is kept short.

    Args:
        keep_turns: the newest turns that always stay word for word.
        keep_tokens: tokens of the newest turns that stay, if that is more.
        digest_tokens: the length of the account of everything before them.
        max_tokens: what a prompt may never exceed, whatever it would save.
    """

    keep_turns: int = 2
    keep_tokens: int = 2_000
    digest_tokens: int = 600
    max_tokens: int = 100_000

    def __post_init__(self) -> None:
        for name in ("keep_turns", "keep_tokens", "digest_tokens", "max_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r}", hint="give a number of 1 or more")

    @property
    def instruction(self) -> str:
        """What asks a model for the digest."""
        return INSTRUCTION.format(words=int(self.digest_tokens * WORDS_PER_TOKEN))

    def ceiling(self, model: str) -> int:
        """Return the most tokens that a prompt may have: below the model's cliff in price."""
        cliff = semantics(model).cliff
        return self.max_tokens if cliff is None else min(self.max_tokens, cliff - 1)

    def high_water(
        self, model: str, rates: Rates | None, *, frozen: int, growth: float, kept: int = 0
    ) -> int:
        """Return from how many tokens on a prompt of this model is compacted.

        Args:
            model: whose cliff in price is never crossed.
            rates: its prices; None where they are unknown, and only `max_tokens` counts.
            frozen: tokens before the log, the old digest not included.
            growth: tokens that one model call adds to the log.
            kept: tokens of the newest turns that stay and are written again.
        """
        kept = max(kept, self.keep_tokens)
        top = self.ceiling(model)
        if rates is None:
            return top
        floor = frozen + self.digest_tokens + kept
        if top <= floor + growth:
            return top
        return water_marks(
            rates,
            frozen=frozen,
            growth=growth,
            digest=self.digest_tokens,
            kept=kept,
            ceiling=top,
        ).high

    def cut(self, shown: Sequence[Entry]) -> int | None:
        """Return the seq of the last entry to compact, or None if nothing is to be.

        The cut stands between two turns, so that a call and its result are never parted.
        """
        turns = sorted({entry.turn for entry in shown})
        sizes = {turn: sum(e.tokens for e in shown if e.turn == turn) for turn in turns}
        kept, tokens = 0, 0
        for turn in reversed(turns):
            if kept >= self.keep_turns and tokens + sizes[turn] > self.keep_tokens:
                return max(entry.seq for entry in shown if entry.turn <= turn)
            kept, tokens = kept + 1, tokens + sizes[turn]
        return None


def growth_of(shown: Sequence[Entry]) -> float:
    """Return how many tokens a model call adds, as this log shows it."""
    calls = sum(entry.kind == "assistant" for entry in shown)
    return sum(entry.tokens for entry in shown) / max(1, calls)


def text_of(record: Record) -> str:
    """Return an entry's words as a person reads them."""
    parts = []
    for block in record.entry.blocks:
        if block["type"] == "call":
            parts.append(f"{block['name']}({block['arguments']})")
        elif block["type"] != "opaque":
            parts.append(block["text"])
    return "\n".join(parts)
