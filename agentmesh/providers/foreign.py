"""Chat models that are not ours: what their errors mean to the retry loop."""

from __future__ import annotations

from langchain_core.exceptions import (
    ContextOverflowError,
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

_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (ContextOverflowError, "context_overflow"),
    (ModelAuthenticationError, "auth"),
    (ModelPermissionDeniedError, "auth"),
    (ModelInvalidRequestError, "invalid_request"),
    (ModelNotFoundError, "not_found"),
    (ModelRateLimitError, "rate_limit"),
    (ModelTimeoutError, "timeout"),
    (ModelConnectionError, "connection"),
    (TimeoutError, "timeout"),
    (ConnectionError, "connection"),
)

_STATUSES = {400: "invalid_request", 401: "auth", 403: "auth", 404: "not_found", 429: "rate_limit"}


def failure_of(error: Exception, model: str) -> TierError:
    """Return any exception of any chat model as the failure of a tier.

    Where an error has a `status_code`, as the vendors' SDKs give it, that decides; otherwise its
    class does. Only what the class or the code calls passing may be tried again.
    """
    if isinstance(error, TierError):
        return error
    status = getattr(error, "status_code", None)
    kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), None)
    if kind is None and isinstance(status, int):
        kind = _STATUSES.get(status, "overloaded" if status >= 500 else "api")
    retryable = kind in ("rate_limit", "overloaded", "timeout", "connection")
    if isinstance(error, ModelError):
        retryable = bool(getattr(error, "is_retryable", retryable))
    what = (str(error).strip().splitlines() or [""])[0][:300]
    return TierError(
        f"{model!r} failed: {type(error).__name__}: {what}",
        kind=kind or "api",
        retryable=retryable,
        status=status if isinstance(status, int) else None,
        hint="see the model's own documentation",
    )
