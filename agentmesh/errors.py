"""Every error that AgentMesh raises on purpose, in one tree.

AgentmeshError
├── ConfigError            an argument, model string, tier or file is wrong: the caller can fix it
│   └── MissingExtraError  an optional package is not installed
├── InputError             a user's message or a recording cannot be accepted
├── OutcomeUnknownError    a tool cannot say whether its call took effect
├── StoreError           the database cannot be opened, read or written
│   ├── ConflictError      compare-and-set failed: somebody else wrote first
│   ├── BusyError          another turn holds the session's lease
│   ├── ErasedError        a write to a session or user that was erased
│   └── CorruptError       a stored row does not match its recorded hash
├── BudgetError            the next call would exceed a budget; it was not made
├── TierError              a tier's model failed: a typed value, never text in an answer
└── TurnError              no tier could finish the turn
"""

from __future__ import annotations


class AgentmeshError(Exception):
    """Base of all errors raised on purpose; `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(AgentmeshError):
    """An argument, model string, tier or file is wrong; the caller can fix it."""


class MissingExtraError(ConfigError):
    """An optional package is not installed; the hint is the line that installs it."""


def missing_extra(extra: str, feature: str) -> MissingExtraError:
    """Return the error that tells which extra brings `feature`."""
    return MissingExtraError(
        f"{feature} needs the extra {extra!r}",
        hint=f"pip install 'agentmesh-langgraph[{extra}]'",
    )


class InputError(AgentmeshError):
    """A user's message or a recording cannot be accepted as it is."""


class OutcomeUnknownError(AgentmeshError):
    """A tool cannot say whether its call took effect; the call is never repeated silently."""


class StoreError(AgentmeshError):
    """The database cannot be opened, read or written."""


class ConflictError(StoreError):
    """Compare-and-set failed: somebody else wrote first."""


class BusyError(StoreError):
    """Another turn holds the session's lease."""


class ErasedError(StoreError):
    """A write to a session or user that was erased, or to a finished turn."""


class CorruptError(StoreError):
    """A stored row does not match its recorded hash."""


class BudgetError(AgentmeshError):
    """The next call would exceed a budget; it was not made."""


class TierError(AgentmeshError):
    """A tier's model failed in a way that its retries did not cure.

    `tier` is its name (empty where a model is used on its own), `kind` one of `rate_limit`,
    `overloaded`, `timeout`, `connection`, `auth`, `invalid_request`, `not_found`,
    `context_overflow`, `cut_stream`, `api`; `retryable` says whether the same request may
    succeed later, `retry_after_s` what the vendor asked for. `reached` is false where no request
    can have come to the vendor.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        tier: str = "",
        retryable: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        reached: bool = True,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.reached = reached
        self.kind = kind
        self.tier = tier
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.status = status

    @property
    def free(self) -> bool:
        """Whether the request surely cost nothing: refused by its status, or never sent."""
        return not self.reached or (self.status is not None and self.status >= 400)


class TurnError(AgentmeshError):
    """No tier could finish the turn; nothing of it was stored as complete."""
