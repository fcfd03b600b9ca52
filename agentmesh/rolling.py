"""Compaction of a session's log, by a call that reads the cache it is about to replace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.runnables import RunnableConfig

from agentmesh.economy.cost_model import Rates
from agentmesh.errors import ConfigError
from agentmesh.memory import Turn
from agentmesh.memory.compaction import Compaction, growth_of
from agentmesh.parts import Parts

if TYPE_CHECKING:
    from agentmesh.act import Act
    from agentmesh.state import State
    from agentmesh.tiers import Tier


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
        cut = policy.cut(shown)
        if cut is None:
            return None
        frozen = sum(tokens for name, tokens in turn.epoch.tokens if name != "digest")
        length = sum(tokens for _, tokens in turn.epoch.tokens) + sum(e.tokens for e in shown)
        try:
            rates = Rates.of(tier.model_name, self._parts.prices, tokens=length)
        except ConfigError:
            rates = None
        high = policy.high_water(
            tier.model_name,
            rates,
            frozen=frozen,
            growth=max(1.0, growth_of(shown)),
            kept=sum(entry.tokens for entry in shown if entry.seq > cut),
        )
        turns = len({entry.turn for entry in shown}) or 1
        next_turn = sum(entry.tokens for entry in shown) / turns
        full = length >= high or length + next_turn > policy.ceiling(tier.model_name)
        return cut if full else None

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> None:
        """Compact the log if it is due; a digest that fails leaves everything as it is."""
        tier = self._tier(state)
        base = self.due(turn, tier) if tier else None
        if tier is not None and base is not None:
            self.compact(state, turn, config, tier, base)

    def compact(
        self, state: State, turn: Turn, config: RunnableConfig, tier: Tier, base: int
    ) -> bool:
        """Replace the log up to `base` by a tier's account of it; false if there is none."""
        if self._parts.compaction is None:
            return False
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
        return bool(digest)

    def _tier(self, state: State) -> Tier | None:
        """Return the tier whose cache is warm, the one that answered last, if it sees the whole log.

        Where it does not, the biggest one that does.
        """
        name = state.get("tier")
        if not name:
            return None
        able = [tier for tier in self._parts.tiers if sees_log(tier)]
        return next((tier for tier in able if tier.name == name), able[-1] if able else None)


def sees_log(tier: Tier) -> bool:
    """Say whether a tier sees every turn of a session, so that it can give an account of them."""
    return tier.view is None or (tier.view.history_turns is None and tier.view.digest)


__all__ = ["Compaction", "Rolling"]
