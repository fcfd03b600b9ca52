"""Compaction of a session's log, by a call that reads the cache it is about to replace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.runnables import RunnableConfig

from agentmesh.economy.cost_model import Rates
from agentmesh.errors import ConfigError
from agentmesh.memory import Turn
from agentmesh.memory.compaction import Compaction, find, growth_of, text_of
from agentmesh.memory.render import SHOWN
from agentmesh.parts import Parts
from agentmesh.tools import context, tool

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from agentmesh.act import Act
    from agentmesh.memory import Memory
    from agentmesh.state import State
    from agentmesh.tiers import Tier

PASSAGE_CHARS = 4_000


class Rolling:
    """Keeps the logs of an agent's sessions between their water marks."""

    def __init__(self, parts: Parts, act: Act) -> None:
        self._parts = parts
        self._act = act

    def due(self, turn: Turn, tier: Tier) -> int | None:
        """Return the seq up to which the log is to be compacted now, or None."""
        policy = self._parts.compaction
        if policy is None:
            return None
        shown = turn.view.shown
        frozen = sum(tokens for name, tokens in turn.epoch.tokens if name != "digest")
        length = sum(tokens for _, tokens in turn.epoch.tokens) + sum(e.tokens for e in shown)
        try:
            rates = Rates.of(tier.model_name, self._parts.prices, tokens=length)
        except ConfigError:
            rates = None
        high = policy.high_water(
            tier.model_name, rates, frozen=frozen, growth=max(1.0, growth_of(shown))
        )
        turns = len({entry.turn for entry in shown}) or 1
        next_turn = sum(entry.tokens for entry in shown) / turns
        full = length >= high or length + next_turn > policy.ceiling(tier.model_name)
        return policy.cut(shown) if full else None

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> None:
        """Compact the log if it is due; a digest that fails leaves everything as it is."""
        tier = self._tier(state)
        base = self.due(turn, tier) if tier else None
        if tier is None or base is None or self._parts.compaction is None:
            return
        digest = self._act.side_call(
            state,
            turn,
            config,
            tier=tier,
            purpose="digest",
            tail=self._parts.compaction.instruction,
        )
        if digest:
            turn.begin_epoch(self._parts.core, "compaction", base=base, digest=digest)

    def _tier(self, state: State) -> Tier | None:
        """Return the tier whose cache is warm: the one that answered last."""
        name = state.get("tier")
        return self._parts.tier(name) if name else None


def recall_tool(memory: Memory) -> BaseTool:
    """Return the tool that brings back passages which a compaction took out of sight."""

    @tool(name="recall", max_chars=5 * PASSAGE_CHARS)
    def recall(words: str) -> str:
        """Find earlier passages of this conversation that are no longer shown, word for word.

        Args:
            words: What to look for: names, numbers, identifiers.
        """
        records = [r for r in memory.history(context().session).records() if r.kind in SHOWN]
        found = find(records, words)
        if not found:
            return f"Nothing in this conversation holds {words!r}."
        return "\n\n".join(f"[{r.seq}, {r.kind}] {text_of(r)[:PASSAGE_CHARS]}" for r in found)

    return recall


__all__ = ["Compaction", "Rolling", "recall_tool"]
