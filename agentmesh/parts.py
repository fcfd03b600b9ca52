"""What an agent is made of, as its nodes see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    from agentmesh.tools import Catalogue, Declaration
    from agentmesh.tools.pins import Pinned


@dataclass(frozen=True)
class Toolset:
    """What an agent's hands hold: the tools, and the core of the prompts that show them.

    `before` is what was declared of tools that the agent has had.
    """

    catalogue: Catalogue
    core: Core
    before: Mapping[str, Declaration] = field(default_factory=dict)

    @cached_property
    def declared(self) -> Mapping[str, Declaration]:
        """What was declared of each tool that there is or was, by name."""
        return {**self.before, **self.catalogue.declarations}

    def stated(self, name: str) -> Declaration:
        """Return what was declared of a tool; the least of all for one that nobody knows."""
        from agentmesh.tools.removed import UNKNOWN

        return self.declared.get(name, UNKNOWN)

    @cached_property
    def facts(self) -> Mapping[str, ToolFacts]:
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

    def withheld(self, agent: str, tier: str) -> tuple[str, ...]:
        """Return the names of the tools that a tier of an agent may not call."""
        return tuple(
            name
            for name, stated in self.catalogue.declarations.items()
            if (stated.agents is not None and agent not in stated.agents)
            or (stated.tiers is not None and tier not in stated.tiers)
        )


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
