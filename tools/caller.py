"""On whose behalf a call runs: told to tools by the graph, never by the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentmesh import canonical
from agentmesh.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks, in which conversation, and under which idempotency key it has its effect once.

    Outside of a turn every field is empty, and a tool that needs a user must refuse.

    >>> with bind_context(user="u1", session="s1"):
    ...     context().user
    'u1'
    """

    tenant: str = ""
    user: str = ""
    session: str = ""
    turn: int = 0
    step: int = 0
    agent: str = ""
    tier: str = ""
    idempotency_key: str = ""
    look: Callable[[str], Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)

    shared: Connection | None = field(default=None, compare=False, repr=False)

    @property
    def connection(self) -> Connection:
        """The connection in whose transaction the call's result is stored, for the tool to write on.

        Raises:
            InputError: the tool was not declared with `transaction=True`, or there is no turn.
        """
        if self.shared is None:
            raise InputError(
                "this call shares no transaction",
                hint="declare @tool(transaction=True), and call it through an agent",
            )
        return self.shared

    def facts(self, bucket: str) -> Mapping[str, Any]:
        """Return what is known in a bucket (`org`, `profile`, `task`), by key.

        Raises:
            InputError: the tool was not declared to see it, or there is no turn.
        """
        if self.look is None:
            raise InputError(
                f"this call sees no {bucket!r}", hint=f"declare @tool(sees={{{bucket!r}}})"
            )
        return self.look(bucket)


_current: ContextVar[CallContext | None] = ContextVar("agentmesh_call", default=None)
_NOBODY = CallContext()


def context() -> CallContext:
    """Return the context of the call that runs now (an empty one outside of a turn)."""
    return _current.get() or _NOBODY


@contextmanager
def bind_context(call: CallContext | None = None, /, **fields: Any) -> Iterator[CallContext]:
    """Make `call`, with `fields` replaced, the context within the block.

    Without `call` the fields are replaced in the context that holds now.
    """
    bound = replace(call or context(), **fields)
    token = _current.set(bound)
    try:
        yield bound
    finally:
        _current.reset(token)


def idempotency_key(call: CallContext, tool: str, args: Mapping[str, Any], *, nth: int = 0) -> str:
    """Return the key of a call: equal for the same call of the same step, and for no other.

    `nth` counts calls with the same arguments within one step, which a model may mean.
    """
    where = [call.tenant, call.session, call.turn, call.step]
    return canonical.sha(canonical.dumps([where, tool, dict(args), nth]))
