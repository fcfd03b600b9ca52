"""What Anthropic checks in a request's tools: their list, and what messages change in it.

A `tool_addition` or `tool_removal` in a system message says what is offered from there on. The
list stands before everything else; a tool that it defers is shown where it is added.
"""

from __future__ import annotations

from typing import Any

from agentmesh.emulator.anthropic_turns import INLINE_TOOLS, need, optional
from agentmesh.emulator.refusal import Refusal, object_schema, tool_name, unknown_fields, words
from agentmesh.emulator.wire import compact

_TOOL_FIELDS = words(
    "name description input_schema type cache_control strict defer_loading input_examples "
    "allowed_callers eager_input_streaming"
)
_TOOL_TEXT = words("cache_control name description input_schema type")
_CHANGED_FIELDS = {
    "tool_reference": frozenset(("type", "name")),
    "tool_definition": frozenset(("type", "definition")),
}


class Tools:
    """The tools of a request as it is read: those defined so far, and those offered."""

    def __init__(self, betas: frozenset[str]) -> None:
        self._betas = betas
        self._defined: dict[str, dict[str, Any]] = {}
        self._hidden: set[str] = set()
        self.offered: dict[str, dict[str, Any]] = {}

    def declare(self, tool: Any, path: str) -> bool:
        """Check an entry of the list and return whether it is shown there, not deferred."""
        _check_tool(tool, path)
        name = tool["name"]
        if name in self._defined:
            raise Refusal("tools: Tool names must be unique.")
        self._defined[name] = tool
        if not tool.get("defer_loading"):
            self.offered[name] = tool
            return True
        if tool.get("cache_control"):
            raise Refusal(
                f'Tool "{name}" cannot have both defer_loading=true and cache_control set. '
                "Tools with defer_loading cannot use prompt caching."
            )
        self._hidden.add(name)
        return False

    def close(self) -> None:
        """Check the list as a whole."""
        if self._defined and not self.offered:
            raise Refusal(
                "All tools have defer_loading set. At least one tool must be non-deferred."
            )

    def change(self, block: dict[str, Any], path: str) -> str:
        """Apply a change and return the text that it adds to the prompt."""
        kind = block["type"]
        path = f"{path}.{kind}.tool"
        tool = need(block, "tool", dict, path)
        self._check_reference(tool, kind, path)
        if tool["type"] == "tool_definition":
            made = need(tool, "definition", dict, f"{path}.definition")
            _check_tool(made, f"{path}.definition")
            self._defined[made["name"]] = self.offered[made["name"]] = made
            self._hidden.discard(made["name"])
            return tool_text(made)
        name: str = need(tool, "name", str, f"{path}.name")
        if name not in self._defined:
            raise Refusal(
                f"{path}: tool '{name}' is not defined at this position in the conversation",
                code="tool_reference_unresolved",
            )
        if kind == "tool_removal":
            self.offered.pop(name, None)
            return name
        self.offered[name] = self._defined[name]
        if name not in self._hidden:
            return name
        self._hidden.remove(name)
        return tool_text(self._defined[name])

    def _check_reference(self, tool: dict[str, Any], kind: str, path: str) -> None:
        known = ["tool_reference"]
        if kind == "tool_addition" and INLINE_TOOLS in self._betas:
            known.append("tool_definition")
        if tool.get("type") not in known:
            raise Refusal(
                f"{path}: Input tag '{tool.get('type')}' found using 'type' does not match any of "
                f"the expected tags: {', '.join(map(repr, known))}"
            )
        for field in unknown_fields(tool, _CHANGED_FIELDS[tool["type"]]):
            raise Refusal(f"{path}.{field}: Extra inputs are not permitted")


def tool_text(tool: dict[str, Any]) -> str:
    """Return what a tool adds to a prompt."""
    return str(tool["name"] + (tool.get("description") or "") + compact(tool["input_schema"]))


def tool_kind(tool: dict[str, Any]) -> str:
    """Return what a tool's hash holds beside its text."""
    rest = {key: value for key, value in tool.items() if key not in _TOOL_TEXT}
    return f"tool {compact(rest)}" if rest else "tool"


def _check_tool(tool: Any, path: str) -> None:
    if not isinstance(tool, dict):
        raise Refusal(f"{path}: Input should be a valid dictionary")
    if tool.get("type", "custom") not in ("custom", None):
        raise Refusal(f"{path}: server tool {tool['type']!r} is not emulated")
    for field in unknown_fields(tool, _TOOL_FIELDS):
        raise Refusal(f"{path}.custom.{field}: Extra inputs are not permitted")
    if not tool_name(r"[a-zA-Z0-9_-]{1,128}", need(tool, "name", str, f"{path}.custom.name")):
        raise Refusal(f"{path}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    optional(tool, "description", str, f"{path}.custom.description")
    optional(tool, "defer_loading", bool, f"{path}.custom.defer_loading")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise Refusal(f"{path}.custom.input_schema: Field required")
    if schema.get("type") != "object":
        raise Refusal(f"{path}.custom.input_schema.type: Input should be 'object'")
    if not object_schema(schema):
        raise Refusal(
            f"{path}.custom.input_schema: JSON schema is invalid. It must match JSON Schema "
            "draft 2020-12"
        )
