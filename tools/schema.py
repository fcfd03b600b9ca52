"""A tool's schema as canonical bytes, and tools made from a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_function
from typing_extensions import Unpack

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError
from agentmesh.prompt import ToolSpec
from agentmesh.tools.declarations import SLOT, Terms, check_name, declared, first_line

_EMPTY: dict[str, Any] = {"type": "object", "properties": {}}


def spec(tool: BaseTool) -> ToolSpec:
    """Return `tool` as a model sees it: the same bytes in every process, injected args left out."""
    try:
        function = convert_to_openai_function(tool)
    except (TypeError, ValueError, NameError, RuntimeError) as error:
        raise _no_schema(tool.name, first_line(error)) from error
    parameters = function.get("parameters") or _EMPTY
    return ToolSpec(tool.name, tool.description.strip(), _checked(tool.name, parameters))


def schema_tool(
    schema: Mapping[str, Any], run: Callable[[dict[str, Any]], str], **terms: Unpack[Terms]
) -> StructuredTool:
    """Make a tool from an OpenAI-style function schema; `run` is given the arguments.

    Raises:
        ConfigError: `schema` names no function, or its parameters are no JSON schema.
    """
    function = schema.get("function", schema) if isinstance(schema, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ConfigError(
            f"{str(schema)[:80]!r} is not a function schema",
            hint='use {"name": ..., "description": ..., "parameters": {...}}',
        )
    name = function["name"]
    check_name(name)
    parameters = function.get("parameters") or _EMPTY
    _checked(name, parameters)
    stated = declared(terms)
    check_args = validator(parameters) if stated.strict else None

    def call(**args: Any) -> str:
        if check_args and (wrong := check_args(args)):
            raise InputError(wrong, hint="call it again with arguments that fit its schema")
        return run(args)

    return StructuredTool(
        name=name,
        description=str(function.get("description") or name),
        args_schema=dict(parameters),
        func=call,
        metadata={SLOT: stated},
    )


def validator(parameters: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], str | None]:
    """Return a function that says what is wrong with arguments, or None."""
    checker = Draft202012Validator(dict(parameters))

    def wrong(args: Mapping[str, Any]) -> str | None:
        errors = sorted(checker.iter_errors(dict(args)), key=lambda error: error.json_path)
        return (
            "; ".join(f"{error.json_path}: {error.message[:200]}" for error in errors[:5]) or None
        )

    return wrong


def _checked(name: str, parameters: Any) -> str:
    """Return `parameters` as canonical JSON, or raise ConfigError if they are no JSON schema."""
    try:
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise _no_schema(name, "it must describe an object")
        Draft202012Validator.check_schema(dict(parameters))
        return canonical.dumps({"type": "object", "properties": {}, **parameters})
    except SchemaError as error:
        raise _no_schema(name, f"{error.json_path}: {error.message[:200]}") from error
    except InputError as error:
        raise _no_schema(name, str(error)) from error


def check_form(name: str, form: Mapping[str, Any]) -> None:
    """Raise ConfigError unless `form` is a JSON schema of an object that names its fields.

    Every field says its type: a form that lets anything through would be none.
    """
    _checked(name, form)
    if not form.get("properties") or not _typed(form):
        raise _no_schema(name, "a form names its fields, each with its type")


def _typed(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    if kind == "object":
        return all(_typed(part) for part in (schema.get("properties") or {"": None}).values())
    if kind == "array":
        return _typed(schema.get("items"))
    return kind in ("string", "number", "integer", "boolean") or "enum" in schema


def _no_schema(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the parameters of the tool {name!r} are no JSON schema: {reason}",
        hint='use {"type": "object", "properties": {...}}',
    )
