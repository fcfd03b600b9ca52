"""What OpenAI's two APIs share: checks, cache breakpoints, error bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from agentmesh.economy.semantics import CacheSemantics, semantics
from agentmesh.emulator.refusal import Refusal, object_schema, tool_name, type_name, unknown_fields
from agentmesh.emulator.wire import BlockBuilder, Event, compact
from agentmesh.prompt import Ttl

_REASONING = re.compile(r"gpt-(?:[5-9]|\d\d)(?!.*-chat).*|o\d(?:-.*)?")
_OPTION_FIELDS = frozenset(("mode", "ttl", "prewarm", "comparison_response_id"))
_COMPARISON = "prompt_cache_options.comparison_response_id"
_ALLOWED_FIELDS = frozenset(("type", "mode", "tools"))
_BREAKPOINT_FIELDS = frozenset(("mode", "ttl"))
_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
}


def error(refusal: Refusal) -> dict[str, Any]:
    """Return OpenAI's error object."""
    kind = refusal.kind
    if refusal.status >= 500:
        kind = "server_error"
    elif refusal.status in (401, 404):
        kind = "invalid_request_error"
    elif refusal.status == 429:
        kind = "rate_limit_exceeded" if refusal.code is None else "insufficient_quota"
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": refusal.code or ("rate_limit_exceeded" if refusal.status == 429 else None),
        }
    }


def reasons(model: str) -> bool:
    """Return whether `model` is one of OpenAI's reasoning models."""
    return _REASONING.fullmatch(model) is not None


def need(raw: dict[str, Any], name: str, kind: type, path: str = "") -> Any:
    """Return the required field `name` of `raw`."""
    path = path or name
    if name not in raw:
        raise Refusal(
            f"Missing required parameter: '{path}'.",
            param=path,
            code="missing_required_parameter",
        )
    return typed(raw[name], kind, path)


def optional(raw: dict[str, Any], name: str, kind: type, path: str = "") -> Any:
    """Return the field `name` of `raw`, None if it is not there."""
    return None if raw.get(name) is None else typed(raw[name], kind, path or name)


def typed(value: Any, kind: type, path: str) -> Any:
    """Return `value` if it has the JSON type `kind`."""
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if not fits:
        raise Refusal(
            f"Invalid type for '{path}': expected {_KINDS[kind]}, but got "
            f"{type_name(value)} instead.",
            param=path,
            code="invalid_type",
        )
    return value


def one_of(value: Any, allowed: Iterable[str], path: str) -> str:
    """Return `value` if it is one of the texts that are allowed."""
    names = tuple(allowed)
    if value not in names:
        listed = ", ".join(f"'{name}'" for name in names)
        raise Refusal(
            f"Invalid value: '{value}'. Supported values are: {listed}.",
            param=path,
            code="invalid_value",
        )
    text: str = value
    return text


def known_fields(raw: dict[str, Any], allowed: frozenset[str], path: str = "") -> None:
    """Refuse fields that the API does not have."""
    for name in unknown_fields(raw, allowed):
        where = f"{path}.{name}" if path else name
        raise Refusal(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")


def unsupported(name: str, note: str = "") -> Refusal:
    """Return the refusal of a parameter that the model does not take."""
    return Refusal(
        f"Unsupported parameter: '{name}' is not supported with this model.{note}",
        param=name,
        code="unsupported_parameter",
    )


def at_least(value: int | None, minimum: int, path: str) -> None:
    """Refuse a number below its minimum."""
    if value is not None and value < minimum:
        raise Refusal(
            f"Invalid '{path}': integer below minimum value. Expected a value >= {minimum}, "
            f"but got {value} instead.",
            param=path,
            code="integer_below_min_value",
        )


def function(tool: dict[str, Any], path: str, builder: BlockBuilder) -> None:
    """Check a function's declaration and add it to the prompt."""
    name = need(tool, "name", str, f"{path}.name")
    if not tool_name(r"[a-zA-Z0-9_-]{1,64}", name):
        raise Refusal(
            f"Invalid '{path}.name': string does not match pattern. Expected a string that "
            "matches the pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters.",
            param=f"{path}.name",
            code="invalid_value",
        )
    description = optional(tool, "description", str, f"{path}.description") or ""
    strict = optional(tool, "strict", bool, f"{path}.strict")
    parameters = optional(tool, "parameters", dict, f"{path}.parameters")
    if parameters is not None and not object_schema(parameters):
        raise Refusal(
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: "
            f'"object"\', got \'type: "{parameters.get("type")}"\'.',
            param=f"{path}.parameters",
            code="invalid_function_parameters",
        )
    if strict and parameters is not None:
        _strict_schema(parameters, name, path)
    builder.add(f"tool {strict}", name + description + compact(parameters or {}))


def chosen(choice: Any, tools: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Check a Responses request's `tool_choice` and return the tools that it lets be called."""
    if choice is None or not isinstance(choice, dict):
        if choice is not None:
            one_of(choice, ("none", "auto", "required"), "tool_choice")
        return tuple(tools.values())
    if choice.get("type") == "allowed_tools":
        known_fields(choice, _ALLOWED_FIELDS, "tool_choice")
        one_of(
            need(choice, "mode", str, "tool_choice.mode"), ("auto", "required"), "tool_choice.mode"
        )
        wanted = need(choice, "tools", list, "tool_choice.tools")
    else:
        wanted = [choice] if choice.get("type") == "function" else []
    for tool in wanted:
        if not isinstance(tool, dict) or tool.get("name") not in tools:
            name = tool.get("name") if isinstance(tool, dict) else tool
            raise Refusal(
                f"Tool choice 'function' not found in 'tools' parameter: {name}.",
                param="tool_choice",
            )
    if choice.get("type") != "allowed_tools":
        return tuple(tools.values())
    names = {tool["name"] for tool in wanted}
    return tuple(tool for name, tool in tools.items() if name in names)


def _strict_schema(schema: dict[str, Any], name: str, path: str) -> None:
    properties = schema.get("properties", {})
    missing = [key for key in properties if key not in schema.get("required", [])]
    if schema.get("additionalProperties") is not False:
        problem = "'additionalProperties' is required to be supplied and to be false."
    elif missing:
        problem = (
            "'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing '{missing[0]}'."
        )
    else:
        return
    raise Refusal(
        f"Invalid schema for function '{name}': In context=(), {problem}",
        param=f"{path}.parameters",
        code="invalid_function_parameters",
    )


class Breakpoints:
    """How a request uses the prompt cache: its mode, its time to live and its marks."""

    def __init__(self, raw: dict[str, Any], model: str, ttls: tuple[str, ...]) -> None:
        self.rules: CacheSemantics = semantics(f"openai-compatible:{model}")
        self.explicit = self.rules.family == "openai-explicit"
        self._ttls = ttls
        options = optional(raw, "prompt_cache_options", dict) or {}
        if options and not self.explicit:
            raise unsupported("prompt_cache_options")
        known_fields(options, _OPTION_FIELDS, "prompt_cache_options")
        mode = one_of(
            options.get("mode", "implicit"), ("implicit", "explicit"), "prompt_cache_options.mode"
        )
        self._ttl = self._named(options.get("ttl", "30m"), "prompt_cache_options.ttl")
        optional(options, "comparison_response_id", str, _COMPARISON)
        self.prewarm = bool(optional(options, "prewarm", bool, "prompt_cache_options.prewarm"))
        retention = optional(raw, "prompt_cache_retention", str)
        if retention is not None:
            one_of(retention, ("in_memory", "24h"), "prompt_cache_retention")
        optional(raw, "prompt_cache_key", str)
        self.implicit: Ttl | None = None if mode == "explicit" else self._ttl
        if not self.explicit:
            self.implicit = "long" if retention == "24h" else "short"

    def _named(self, ttl: Any, path: str) -> Ttl:
        return "long" if one_of(ttl, self._ttls, path) == "12h" else "short"

    def mark(self, part: dict[str, Any], path: str) -> Ttl | None:
        """Return the breakpoint at the end of a content part, None if it has none."""
        if "prompt_cache_breakpoint" not in part:
            return None
        breakpoint_ = optional(
            part, "prompt_cache_breakpoint", dict, f"{path}.prompt_cache_breakpoint"
        )
        if breakpoint_ is None:
            return None
        where = f"{path}.prompt_cache_breakpoint"
        if not self.explicit:
            raise unsupported(where)
        known_fields(breakpoint_, _BREAKPOINT_FIELDS, where)
        one_of(need(breakpoint_, "mode", str, f"{where}.mode"), ("explicit",), f"{where}.mode")
        if "ttl" in breakpoint_:
            return self._named(breakpoint_["ttl"], f"{where}.ttl")
        return self._ttl


def named(event: Event) -> bytes:
    """Return an event of the Responses API as it goes over the wire."""
    return f"event: {event.name}\ndata: {compact(event.body)}\n\n".encode()


def overflow(tokens: int, window: int) -> Refusal:
    """Return the refusal of a prompt that is longer than the model's window."""
    return Refusal(
        f"Your input exceeds the context window of this model: {tokens} tokens > {window}. "
        "Please adjust your input and try again.",
        param="input",
        code="context_length_exceeded",
    )
