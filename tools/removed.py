"""What stands for a tool that an agent no longer has, where a model still calls it."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool

from agentmesh.errors import InputError
from agentmesh.tools.declarations import Declaration
from agentmesh.tools.schema import schema_tool

UNKNOWN = Declaration(trust="untrusted", confidentiality="private")
"""What holds of a tool of which nothing is known any more: its words are worth the least."""


def removed(name: str) -> BaseTool:
    """Return a tool of this name that does nothing, and says so.

    It is taken to act outside: a call that was cut off before the tool went is reported as
    unknown, and not as one that did nothing.
    """

    def call(args: dict[str, Any]) -> str:
        raise InputError(
            f"there is no tool {name!r} any more, and this call did nothing",
            hint="go on with the tools that there are, or say what cannot be done",
        )

    schema = {"name": name, "description": "Removed.", "parameters": {"type": "object"}}
    return schema_tool(schema, call, strict=False, side_effect="external")
