"""A vendor's failure as a `TierError`: what went wrong, and whether trying again can help.

Each is a langchain `ModelError` too, so that code written for any chat model catches it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from agentmesh.errors import TierError

MESSAGE_CHARS = 400
"""The longest text of a vendor that an error repeats."""


SECRET_CHARS = 8
"""The shortest key that is looked for in a vendor's text; `none` is no secret."""


class ModelFailure(TierError, ModelError):
    """A `TierError` of a chat model; `is_retryable` is langchain's name for `retryable`."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.is_retryable = self.retryable


class RateLimitFailure(ModelFailure, ModelRateLimitError):
    """The vendor's rate limit or quota is used up (HTTP 429)."""


class ApiFailure(ModelFailure, ModelAPIError):
    """The vendor's server failed, is overloaded, or answered what is not its protocol."""


class TimeoutFailure(ModelFailure, ModelTimeoutError):
    """The call took longer than its `timeout_s`."""


class ConnectionFailure(ModelFailure, ModelConnectionError):
    """The server cannot be reached, or the connection broke before the answer's end."""


class AuthFailure(ModelFailure, ModelAuthenticationError):
    """The API key is refused, or has no credit."""


class PermissionFailure(ModelFailure, ModelPermissionDeniedError):
    """The API key is right, but may not do this (HTTP 403)."""


class InvalidRequestFailure(ModelFailure, ModelInvalidRequestError):
    """The vendor refuses the request as it is."""


class NotFoundFailure(ModelFailure, ModelNotFoundError):
    """There is no such model or address."""


class OverflowFailure(ModelFailure, ContextOverflowError):
    """The prompt is longer than the model's context."""


_CLASSES: dict[str, type[ModelFailure]] = {
    "rate_limit": RateLimitFailure,
    "overloaded": ApiFailure,
    "timeout": TimeoutFailure,
    "connection": ConnectionFailure,
    "auth": AuthFailure,
    "invalid_request": InvalidRequestFailure,
    "not_found": NotFoundFailure,
    "context_overflow": OverflowFailure,
    "cut_stream": ConnectionFailure,
    "api": ApiFailure,
}

_RETRYABLE = {"rate_limit", "overloaded", "timeout", "connection", "cut_stream", "api"}

_HINTS = {
    "rate_limit": "wait, or lower the rate of requests",
    "overloaded": "wait, or let another tier answer",
    "timeout": "raise timeout_s, or ask for fewer tokens",
    "connection": "check that the server runs and that base_url is right",
    "auth": "check the API key, its permissions and its credit",
    "invalid_request": "the request is at fault: change it before trying again",
    "not_found": "check the model's name and base_url",
    "context_overflow": "shorten the prompt, or take a model with a longer context",
    "cut_stream": "nothing of the partial answer was kept: try again",
    "api": "the server is at fault: try again, or let another tier answer",
}

_TYPES = {
    "overloaded_error": "overloaded",
    "slow_down": "overloaded",
    "engine_overloaded": "overloaded",
    "server_is_overloaded": "overloaded",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "insufficient_quota": "rate_limit",
    "authentication_error": "auth",
    "invalid_api_key": "auth",
    "permission_error": "auth",
    "billing_error": "auth",
    "not_found_error": "not_found",
    "model_not_found": "not_found",
    "invalid_request_error": "invalid_request",
    "invalid_prompt": "invalid_request",
    "request_too_large": "context_overflow",
    "context_length_exceeded": "context_overflow",
    "exceed_context_size_error": "context_overflow",
    "timeout_error": "timeout",
}

_STATUSES = {
    401: "auth",
    402: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    413: "context_overflow",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}

_OVERFLOW = re.compile(
    r"prompt is too long|maximum context length|context window|context size|input is too long"
    r"|exceeds? the (model's )?(max|context)",
    re.IGNORECASE,
)


def failure(
    kind: str,
    model: str,
    what: str,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
    retryable: bool | None = None,
) -> ModelFailure:
    """Return the error of a `kind`, saying in one line what `model` did."""
    forbidden = kind == "auth" and status == 403
    error = PermissionFailure if forbidden else _CLASSES[kind]
    return error(
        f"{model!r} {' '.join(what.split())}",
        kind=kind,
        retryable=kind in _RETRYABLE if retryable is None else retryable,
        retry_after_s=retry_after_s,
        status=status,
        hint=_HINTS[kind],
    )


def cut_stream(model: str) -> ModelFailure:
    """Return the failure of an answer that ended without its terminal event."""
    return failure("cut_stream", model, "closed the connection before the end of its answer")


def told_failure(
    model: str, error: Mapping[str, Any], *, status: int | None = None
) -> ModelFailure:
    """Return the failure that a vendor's error object tells of: `type`, `code` and `message`."""
    names = [str(error.get(key)) for key in ("code", "type") if error.get(key)]
    message = str(error.get("message") or "no reason given")[:MESSAGE_CHARS]
    kind = next((_TYPES[name] for name in names if name in _TYPES), None)
    by_status = _STATUSES.get(status or 0)
    if kind in (None, "invalid_request") and by_status is not None:
        kind = by_status
    if kind is None:
        kind = "invalid_request" if status and 400 <= status < 500 else "api"
    if kind == "invalid_request" and _OVERFLOW.search(message):
        kind = "context_overflow"
    if status == 409:
        kind = "api"
    said = f"answered {status}" if status and status >= 400 else "failed in mid-answer"
    retryable = False if "insufficient_quota" in names else None
    return failure(kind, model, f"{said}: {message}", status=status, retryable=retryable)


def from_sdk(
    error: Exception,
    *,
    sdk: ModuleType,
    model: str,
    secrets: Sequence[str],
    midway: bool = False,
) -> ModelFailure:
    """Return the failure behind an exception of a vendor's SDK, of its HTTP client or parser.

    A connection that breaks `midway`, while an answer streams in, is a cut stream.
    """
    import httpx2

    if isinstance(error, (sdk.APITimeoutError, httpx2.TimeoutException, TimeoutError)):
        return failure("timeout", model, "did not answer in time")
    if isinstance(error, sdk.APIStatusError):
        found = told_failure(model, _told(error), status=error.status_code)
        found.retry_after_s = retry_after(error.response.headers)
    elif isinstance(error, (sdk.APIConnectionError, httpx2.TransportError)):
        if midway:
            return cut_stream(model)
        cause = error.__cause__ or error
        why = str(cause) or type(cause).__name__
        found = failure("connection", model, f"cannot be reached: {why}")
        found.reached = not isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout))
    elif isinstance(error, sdk.APIError):
        found = told_failure(model, _told(error))
    else:
        found = failure("api", model, f"sent an answer that cannot be read: {error}")
    for secret in secrets:
        if len(secret) >= SECRET_CHARS:
            found.args = tuple(str(arg).replace(secret, "***") for arg in found.args)
    return found


def _told(error: Any) -> Mapping[str, Any]:
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return inner
        return {"message": str(inner)}
    return {"message": str(body or error.message)}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a vendor asks to wait, from its headers, or None."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        until = parsedate_to_datetime(headers["retry-after"])
        now = parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
