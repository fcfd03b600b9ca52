"""What a tool may do, stated beside the tool and decided outside the model."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, overload

from langchain_core.tools import BaseTool, StructuredTool
from typing_extensions import Unpack

from agentmesh.errors import ConfigError
from agentmesh.tools.labels import (
    CONFIDENTIALITIES,
    INTEGRITIES,
    SIDE_EFFECTS,
    Confidentiality,
    Integrity,
    SideEffect,
    check,
)

Approval = Literal["never", "always"] | Callable[[dict[str, Any]], bool]
"""When a person must agree; a condition is given the arguments."""

SLOT = "agentmesh.declaration"
BUCKETS = frozenset({"org", "profile", "task"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a tool does, who may call it, and what its answer is worth.

    `final`: its result ends the turn without another model call, always or where a function of
    the result says so. `strict`: arguments are
    checked against the schema before the call. `trust`, `confidentiality`: of its output.
    `accepts`: the lowest integrity of what the turn has read with which it may run at all.
    `sends`: the highest confidentiality of it that may leave through this tool.
    `sees`: the buckets that it may read through `context().facts(...)`: org, profile, task.
    `transaction`: it writes through `context().connection`, a SQLAlchemy connection to the
    memory's database, in the transaction that stores its result: both or neither. It is waited
    for, whatever its timeout, and other writers wait with it.
    `quarantine`: a form, as a JSON schema: a tier without tools reads the untrusted output, and the
    acting model is shown the form's fields alone.
    `reconcile`: given the idempotency key, returns the answer that a call under it gave, or
    None if it never ran; it is asked after a crash.
    """

    side_effect: SideEffect = "none"
    approval: Approval = "never"
    idempotent: bool = False
    timeout_s: float | None = 30.0
    max_chars: int = 20_000
    trust: Literal["trusted", "untrusted"] = "trusted"
    final: bool | Callable[[str], bool] = False
    strict: bool = True
    tiers: frozenset[str] | None = None
    agents: frozenset[str] | None = None
    accepts: Integrity = "untrusted"
    sends: Confidentiality = "private"
    confidentiality: Confidentiality = "public"
    sees: frozenset[str] = frozenset()
    transaction: bool = False
    quarantine: Mapping[str, Any] | None = None
    reconcile: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        check("side_effect", self.side_effect, SIDE_EFFECTS)
        if not callable(self.approval):
            check("approval", self.approval, ("never", "always"))
        check("trust", self.trust, ("trusted", "untrusted"))
        check("accepts", self.accepts, INTEGRITIES)
        check("sends", self.sends, CONFIDENTIALITIES)
        check("confidentiality", self.confidentiality, CONFIDENTIALITIES)
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(
                f"timeout_s cannot be {self.timeout_s!r}", hint="use seconds > 0, or None"
            )
        if self.max_chars < 200:
            raise ConfigError(
                f"max_chars cannot be {self.max_chars!r}", hint="use 200 or more characters"
            )
        if isinstance(self.sees, str) or not set(self.sees) <= BUCKETS:
            raise ConfigError(
                f"sees cannot be {self.sees!r}", hint=f"a set of {', '.join(sorted(BUCKETS))}"
            )
        if self.quarantine is not None and self.trust != "untrusted":
            raise ConfigError("quarantine is for untrusted output", hint='add trust="untrusted"')
        if self.quarantine is not None and self.transaction:
            raise ConfigError(
                "a tool in quarantine cannot share a transaction", hint="declare one of the two"
            )
        object.__setattr__(self, "sees", frozenset(self.sees))
        for name in ("tiers", "agents"):
            names = getattr(self, name)
            if isinstance(names, str):
                raise ConfigError(f"{name} cannot be {names!r}", hint="use a set of names")
            if names is not None:
                object.__setattr__(self, name, frozenset(names))

    def ends_turn(self, result: str) -> bool:
        """Whether this result of the tool is the turn's last word."""
        return self.final(result) if callable(self.final) else self.final

    def needs_approval(self, args: dict[str, Any]) -> bool:
        """Whether a person must agree to a call with `args`; a condition that fails says yes."""
        if not callable(self.approval):
            return self.approval == "always"
        try:
            return bool(self.approval(dict(args)))
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
            return True  # arguments that the condition cannot judge are a person's to judge


class Terms(TypedDict, total=False):
    """The fields of a Declaration, as keyword arguments."""

    side_effect: SideEffect
    approval: Approval
    idempotent: bool
    timeout_s: float | None
    max_chars: int
    trust: Literal["trusted", "untrusted"]
    final: bool | Callable[[str], bool]
    strict: bool
    tiers: frozenset[str] | set[str] | None
    agents: frozenset[str] | set[str] | None
    accepts: Integrity
    sends: Confidentiality
    confidentiality: Confidentiality
    sees: frozenset[str] | set[str]
    transaction: bool
    quarantine: Mapping[str, Any] | None
    reconcile: Callable[[str], str | None] | None


def declared(terms: Terms, base: Declaration | None = None) -> Declaration:
    """Return a Declaration from keyword arguments; an unknown one is a ConfigError."""
    known = set(Declaration.__dataclass_fields__)
    if unknown := sorted(set(terms) - known):
        raise ConfigError(
            f"a declaration has no {unknown[0]!r}", hint="it has " + ", ".join(sorted(known))
        )
    return replace(base or Declaration(), **terms)  # type: ignore[arg-type]  # sets become frozen


def declaration(tool: BaseTool) -> Declaration:
    """Return what was declared of `tool`; the defaults for one that was never declared."""
    stated = (tool.metadata or {}).get(SLOT)
    return stated if isinstance(stated, Declaration) else Declaration()


def declare(tool: BaseTool, **terms: Unpack[Terms]) -> BaseTool:
    """Return a copy of any langchain-core tool with `terms` declared; the rest stays."""
    if not isinstance(tool, BaseTool):
        raise ConfigError(f"{tool!r} is not a tool", hint="use @tool on a function")
    stated = declared(terms, declaration(tool))
    return tool.model_copy(update={"metadata": {**(tool.metadata or {}), SLOT: stated}})


@overload
def tool(function: Callable[..., Any], /) -> StructuredTool: ...
@overload
def tool(
    function: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **terms: Unpack[Terms],
) -> Callable[[Callable[..., Any]], StructuredTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **terms: Unpack[Terms],
) -> StructuredTool | Callable[[Callable[..., Any]], StructuredTool]:
    """Make a langchain-core tool of a function, with what it may do declared beside it.

    The docstring is what the model reads; its Google-style `Args` describe the arguments.

    >>> @tool(side_effect="external", approval=lambda args: args["cents"] > 5000)
    ... def refund(order: str, cents: int) -> str:
    ...     "Pay money back."
    ...     return f"{order}: {cents} cents paid back"
    >>> declaration(refund).needs_approval({"order": "W1", "cents": 6000})
    True
    """
    stated = declared(terms)
    if function is None:
        return lambda wrapped: _structured(wrapped, name, description, stated)
    return _structured(function, name, description, stated)


def check_name(name: str) -> None:
    """Raise ConfigError unless every vendor accepts `name` as a tool's name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a tool cannot be named {name!r}", hint="use 1 to 64 letters, digits, _ or -"
        )


def _structured(
    function: Callable[..., Any], name: str | None, description: str | None, stated: Declaration
) -> StructuredTool:
    if isinstance(function, BaseTool):
        raise ConfigError(
            f"{function.name!r} is a tool already", hint="use declare(tool, ...) to change it"
        )
    if not callable(function):
        raise ConfigError(f"{function!r} is not a function", hint="put @tool on a function")
    label = name or str(getattr(function, "__name__", ""))
    check_name(label)
    if not (description or inspect.getdoc(function) or "").strip():
        raise ConfigError(
            f"the tool {label!r} has no docstring", hint="say in it what the model gets"
        )
    awaits = inspect.iscoroutinefunction(function)
    try:
        return StructuredTool.from_function(
            func=None if awaits else _decoding(function),
            coroutine=_adecoding(function) if awaits else None,
            name=label,
            description=description,
            parse_docstring=True,
            metadata={SLOT: stated},
        )
    except (TypeError, ValueError, NameError, RuntimeError) as error:
        raise ConfigError(
            f"the arguments of the tool {label!r} have no schema: {first_line(error)}",
            hint="annotate them with JSON's types, or with pydantic models",
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of what `error` says, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _decoding(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def decoded(*args: Any, **kwargs: Any) -> Any:
        return _text(function(*args, **kwargs))

    return decoded


def _adecoding(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def decoded(*args: Any, **kwargs: Any) -> Any:
        return _text(await function(*args, **kwargs))

    return decoded


def _text(output: Any) -> Any:
    """Return bytes as text, before langchain-core would write them as a Python literal."""
    if isinstance(output, bytes | bytearray):
        return output.decode("utf-8", "replace")
    return output
