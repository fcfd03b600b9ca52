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

if TYPE_CHECKING:
    from agentmesh.learning import Learning
    from agentmesh.memory.compaction import Compaction
    from agentmesh.routers import LiveRouter
    from agentmesh.routing import Check, Router, ToolFacts
    from agentmesh.tools import Catalogue
    from agentmesh.tools.pins import Pinned


@dataclass(frozen=True)
class Parts:
    """The checked arguments of an `Agent`."""

    name: str
    core: Core
    catalogue: Catalogue
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

    @cached_property
    def tool_facts(self) -> Mapping[str, ToolFacts]:
        """What the checks know of each tool."""
        from agentmesh.routing import ToolFacts

        stated = self.catalogue.declarations
        return {
            name: ToolFacts(
                schema,
                stated[name].side_effect,
                stated[name].strict,
                self.catalogue.by_name[name].description,
            )
            for name, schema in self.catalogue.schemas.items()
        }

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
