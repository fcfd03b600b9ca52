"""The tools of an agent in the one order in which every model is shown them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from langchain_core.tools import BaseTool

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.prompt import ToolSpec
from agentmesh.tools.call import blocks, injects
from agentmesh.tools.declarations import Declaration, check_name, declaration, tool
from agentmesh.tools.schema import check_form, spec

ORIGIN = "agentmesh.origin"
"""Where a tool's metadata holds the hash of its definition as its server gave it."""


@dataclass(frozen=True)
class Catalogue:
    """Tools sorted by name; make one with `catalogue`.

    `shown` holds what a model is shown of a tool in place of what the tool says of itself now.
    """

    tools: tuple[BaseTool, ...]
    shown: Mapping[str, ToolSpec] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> Mapping[str, BaseTool]:
        """The tools by name."""
        return {item.name: item for item in self.tools}

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as a model sees them, sorted by name."""
        return tuple(self.shown.get(item.name) or spec(item) for item in self.tools)

    @cached_property
    def schemas(self) -> Mapping[str, dict[str, Any]]:
        """Each tool's parameters as a JSON schema, by name."""
        return {item.name: canonical.loads(item.parameters) for item in self.specs}

    @cached_property
    def declarations(self) -> Mapping[str, Declaration]:
        """Each tool's declaration, by name."""
        return {item.name: declaration(item) for item in self.tools}

    @cached_property
    def pins(self) -> Mapping[str, str]:
        """The SHA-256 of each tool's definition: a changed one must be approved again."""
        return {item.name: _pin(item) for item in self.tools}

    def changed(self, pins: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of tools whose definition is not the one pinned, sorted."""
        return tuple(name for name, sha in self.pins.items() if pins.get(name) != sha)

    def showing(self, shown: Mapping[str, ToolSpec]) -> Catalogue:
        """Return these tools, some of them shown to a model as given."""
        return replace(self, shown={**self.shown, **shown})

    def get(self, name: str) -> BaseTool | None:
        """Return the tool named `name`, or None."""
        return self.by_name.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __iter__(self) -> Iterator[BaseTool]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)


def _check_transaction(item: BaseTool) -> None:
    if declaration(item).transaction and (injects(item) or not blocks(item)):
        raise ConfigError(
            f"the tool {item.name!r} cannot share a transaction",
            hint="make it a plain function (not async) with no injected arguments",
        )


def _pin(item: BaseTool) -> str:
    said = spec(item)
    origin = (item.metadata or {}).get(ORIGIN, "")
    return canonical.sha(canonical.dumps([said.name, said.description, said.parameters, origin]))


def catalogue(tools: Iterable[BaseTool | Callable[..., Any]]) -> Catalogue:
    """Return `tools` sorted and checked; plain functions become tools with nothing declared.

    Raises:
        ConfigError: Two tools have one name, or one has no docstring or no valid schema.
    """
    made = [item if isinstance(item, BaseTool) else tool(item) for item in tools]
    made.sort(key=lambda item: item.name)
    for first, second in pairwise(made):
        if first.name == second.name:
            raise ConfigError(
                f"two tools are named {first.name!r}", hint="rename one with @tool(name=...)"
            )
    for item in made:
        check_name(item.name)
        _check_transaction(item)
        if (form := declaration(item).quarantine) is not None:
            check_form(item.name, form)
        if not item.description.strip():
            raise ConfigError(
                f"the tool {item.name!r} has no description", hint="say what the model gets"
            )
    result = Catalogue(tuple(made))
    _ = result.specs  # a schema that is none is told here, not in the middle of a turn
    return result
