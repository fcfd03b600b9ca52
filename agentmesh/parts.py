"""What an agent is made of, as its nodes see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentmesh.budgets import Budget
from agentmesh.economy.prices import PriceBook
from agentmesh.errors import ConfigError
from agentmesh.memory import Core, Memory
from agentmesh.tiers import Tier
from agentmesh.toolsets import Toolset

if TYPE_CHECKING:
    from agentmesh.learning import Learning
    from agentmesh.memory.compaction import Compaction
    from agentmesh.routers import LiveRouter
    from agentmesh.routing import Check, Router
    from agentmesh.tools import Catalogue
    from agentmesh.tools.pins import Pinned


@dataclass(eq=False)
class Parts:
    """The checked arguments of an `Agent`. Only the toolset is ever exchanged, as a whole."""

    name: str
    toolset: Toolset
    tiers: tuple[Tier, ...]
    memory: Memory
    router: Router | LiveRouter
    checks: tuple[Check, ...]
    budget: Budget
    opening: str
    blocked_reply: str
    fallback: str | None
    tail: Callable[[], str]
    compaction: Compaction | None
    max_input_chars: int
    deadline_s: float
    learning: Learning | None = None
    pins: Pinned | None = None
    reader: str | None = None

    @cached_property
    def prices(self) -> PriceBook:
        """The list prices, and those that the tiers state."""
        models = [model for tier in self.tiers for model in tier.models]
        return PriceBook({m.model_name: m.price for m in models if m.price is not None})

    @property
    def catalogue(self) -> Catalogue:
        """The tools as they are now."""
        return self.toolset.catalogue

    @property
    def core(self) -> Core:
        """What every user's prompts begin with, as it is now."""
        return self.toolset.core

    @property
    def recalls(self) -> bool:
        """Whether the agent can look up what it no longer sees."""
        return self.compaction is not None and "recall" in self.catalogue.by_name

    def tier(self, name: str) -> Tier:
        """Return a tier by its name."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise ConfigError(
            f"tier {name!r} is not defined", hint=f"tiers: {', '.join(t.name for t in self.tiers)}"
        )

    def as_context(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return on whose behalf a step's tools run."""
        return {
            "tenant": self.memory.tenant,
            "user": state["user"],
            "session": state["session"],
            "turn": state["turn"],
            "step": state["step"],
            "agent": self.name,
            "tier": state["tier"],
        }
