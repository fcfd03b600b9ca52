"""The tools of an agent: checked, held to their pins, and exchanged as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from agentmesh.errors import ConfigError
from agentmesh.memory import Core
from agentmesh.passages import recall_tool
from agentmesh.routing import ToolFacts, check_tools
from agentmesh.tools import Catalogue, Declaration, catalogue
from agentmesh.tools.removed import UNKNOWN

if TYPE_CHECKING:
    from agentmesh.parts import Parts


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
        return self.declared.get(name, UNKNOWN)

    @cached_property
    def facts(self) -> Mapping[str, ToolFacts]:
        """What the checks know of each tool."""
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


def toolset_of(parts: Parts, tools: Sequence[BaseTool | Callable[..., Any]]) -> Toolset:
    """Return the tools of an agent, checked, with the one that it has of itself."""
    known = catalogue(tools)
    dumb = [tier.name for tier in parts.tiers if not tier.calls_tools]
    if dumb and len(known):
        raise ConfigError(
            f"the model of tier {dumb[0]!r} cannot call tools", hint="leave tools out, or it"
        )
    _check_callers(known, [tier.name for tier in parts.tiers])
    own = parts.compaction is not None and not dumb and "recall" not in known
    recall = [recall_tool(parts.memory)] if own else []
    check_tools(parts.checks, catalogue([*known, *recall]).by_name)
    if parts.pins is not None:
        known = parts.pins.hold(known)
    known = catalogue([*known, *recall]).showing(known.shown)
    return Toolset(known, Core(known.specs, parts.core.text), parts.toolset.declared)


def _check_callers(known: Catalogue, tiers: Sequence[str]) -> None:
    """Refuse tools that are declared for a tier which there is not."""
    for tool, stated in known.declarations.items():
        for name in sorted(stated.tiers or ()):
            if name not in tiers:
                raise ConfigError(
                    f"the tool {tool!r} is for tier {name!r}, which is not defined",
                    hint=f"tiers: {', '.join(tiers)}",
                )
