"""Errors that the emulated vendor answers with, and the checks that all three APIs share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Refusal(Exception):
    """A request that the vendor refuses, or a fault in its place."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """Anthropic's name of the error's type."""
        return _KINDS.get(
            self.status, "invalid_request_error" if self.status < 500 else "api_error"
        )


def words(names: str) -> frozenset[str]:
    """Return the names in a text."""
    return frozenset(names.split())


def type_name(value: Any) -> str:
    """Return how OpenAI's messages name the JSON type of `value`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a decimal"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def unknown_fields(raw: Mapping[str, Any], allowed: frozenset[str]) -> list[str]:
    """Return the fields of `raw` that are not allowed, in their order."""
    return [name for name in raw if name not in allowed] if raw.keys() - allowed else []


def object_schema(schema: Any) -> bool:
    """Return whether `schema` is a JSON schema of an object."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    return (
        isinstance(properties, dict)
        and all(isinstance(value, dict | bool) for value in properties.values())
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
    )


def tool_name(pattern: str, name: Any) -> bool:
    """Return whether `name` is a tool's name by the vendor's pattern."""
    return isinstance(name, str) and re.fullmatch(pattern, name) is not None
