"""An effect happens once: what `tools` asks of whoever keeps the journal.

intent -> effect -> result, each written before the next begins. After a crash an intent with no
result is unknown: the tool is asked by key, then the journal's keeper; it is run again only if it
is declared idempotent (or has no effect at all); otherwise it is reported, never repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from langchain_core.tools import BaseTool

from agentmesh import canonical
from agentmesh.tools.call import Result
from agentmesh.tools.caller import CallContext, idempotency_key
from agentmesh.tools.declarations import Declaration, declaration

State = Literal["new", "unknown"]
"""A call that was never begun; one that was begun, and whose end nobody wrote down."""


class Journal(Protocol):
    """Where intents and results are kept; each method returns when its row is durable."""

    def intent(self, key: str, tool: str, args: str) -> State | Result:
        """Write that the call `key` begins, unless it is known; return what was known of it."""
        ...

    def result(self, key: str, result: Result) -> None:
        """Write how the call `key` ended."""
        ...

    def reconcile(self, key: str) -> Result | None:
        """Return what a person has said about the unknown call `key`, or None."""
        ...


def keyed(
    tool: BaseTool, args: Mapping[str, Any], context: CallContext, *, nth: int = 0
) -> CallContext:
    """Return `context` with the idempotency key of this call in it."""
    return replace(context, idempotency_key=idempotency_key(context, tool.name, args, nth=nth))


def run_once(
    tool: BaseTool,
    args: Mapping[str, Any],
    context: CallContext,
    journal: Journal,
    run: Callable[[], Result],
) -> Result:
    """Return the result of the call under `context.idempotency_key`: the recorded one, or that of `run`.

    Args:
        tool: The tool that `run` calls.
        args: Its arguments, written into the journal.
        context: Made by `keyed`.
        journal: Where the call is written before and after.
        run: Calls the tool (`run_call` with this context); an exception that it raises leaves
            the intent open.
    """
    known = journal.intent(context.idempotency_key, tool.name, canonical.dumps(dict(args)))
    settled = _settled(known, tool, context.idempotency_key, journal)
    if settled is None:
        settled = run()
    if not isinstance(known, Result):
        journal.result(context.idempotency_key, settled)
    return settled


async def arun_once(
    tool: BaseTool,
    args: Mapping[str, Any],
    context: CallContext,
    journal: Journal,
    run: Callable[[], Awaitable[Result]],
) -> Result:
    """Do what `run_once` does with an asynchronous `run`."""
    known = journal.intent(context.idempotency_key, tool.name, canonical.dumps(dict(args)))
    settled = _settled(known, tool, context.idempotency_key, journal)
    if settled is None:
        settled = await run()
    if not isinstance(known, Result):
        journal.result(context.idempotency_key, settled)
    return settled


def _settled(known: State | Result, tool: BaseTool, key: str, journal: Journal) -> Result | None:
    """Return the result if the call must not run (again), or None if it may."""
    if isinstance(known, Result):
        return known
    if known == "new":
        return None
    stated = declaration(tool)
    asked = _asked(stated, key)
    if asked == "never ran":
        return None
    if isinstance(asked, Result):
        return asked
    if (said := journal.reconcile(key)) is not None:
        return said
    if stated.side_effect == "none" or stated.idempotent:
        return None
    return Result(
        f"Error: an earlier call of {tool.name!r} with these arguments was cut off and its outcome "
        "is unknown; do not repeat it, tell the person and let them check",
        error=True,
        unknown=True,
    )


def _asked(stated: Declaration, key: str) -> Result | Literal["never ran"] | None:
    """Ask the tool itself what became of the call; None if it cannot be asked."""
    if stated.reconcile is None:
        return None
    answer = stated.reconcile(key)
    return "never ran" if answer is None else Result(answer, final=stated.ends_turn(answer))
