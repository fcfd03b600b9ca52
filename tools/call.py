"""One call of one tool, so that nothing a tool does can break a turn.

A tool may raise, hang, exit, or return 50 MB of bytes that are no text; what comes back is
always a Result whose text a model can act on. This module is the boundary to code that is not
ours, and therefore the one place in `tools` that catches every exception.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    ToolException,
)
from langchain_core.tools import Tool as PlainTool
from pydantic import ValidationError

from agentmesh import canonical
from agentmesh.errors import AgentmeshError, InputError, OutcomeUnknownError
from agentmesh.tools.caller import CallContext, bind_context, idempotency_key
from agentmesh.tools.declarations import Declaration, declaration
from agentmesh.tools.loan import lend
from agentmesh.tools.output import cut, delimit, text_of

Passthrough = tuple[type[BaseException], ...]
"""Exceptions that are no failures of the tool, such as LangGraph's interrupts."""

_GRACE_S = 1.0
_MARK_DIGITS = 12
_ERROR_CHARS = 500
_FAILURE_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave. `final` ends the turn; `unknown` means that nobody knows if it ran.

    `raw` is what the tool returned before it became text (a LangGraph Command, an artifact).
    `whole` is the text before it was cut to the declared size; empty where nothing was cut.
    """

    text: str
    error: bool = False
    final: bool = False
    unknown: bool = False
    raw: Any = field(default=None, compare=False, repr=False)
    whole: str = field(default="", compare=False, repr=False)


def run_call(
    tool: BaseTool,
    call_id: str,
    args: Mapping[str, Any] | str,
    context: CallContext | None = None,
    *,
    call: Callable[[dict[str, Any]], Any] | None = None,
    config: RunnableConfig | None = None,
    passthrough: Passthrough = (),
) -> Result:
    """Call `tool` within its declared time and size, and return its result as text.

    A tool that is still running at its timeout is left behind on a daemon thread.

    Args:
        tool: Any langchain-core tool; what was declared of it holds.
        call_id: The id that the model gave to the call.
        args: The arguments, or the JSON text that the model wrote.
        context: On whose behalf; the current context if left out.
        call: How the arguments reach a tool that wants more injected than the call's id, such
            as ToolNode's `execute`; any other tool is called directly, where a hanging one can
            be left behind.
        config: Passed to the tool, with its callbacks.
        passthrough: Exception types to raise instead of turning them into text.
    """
    stated = declaration(tool)
    with bind_context(context) as bound:
        try:
            checked = _arguments(tool, args, stated, bound)
            if not blocks(tool):
                output = _looped(tool, call_id, checked, config, stated.timeout_s)
            elif call is not None and injects(tool):
                output = _within(lambda: call(checked), stated.timeout_s)
            elif stated.transaction and bound.shared is not None:
                work = partial(_invoke, tool, call_id, checked, config)
                output = lend(bound.shared, lambda: _within(work, stated.timeout_s))
            else:
                work = partial(_invoke, tool, call_id, checked, config)
                output = _within(work, stated.timeout_s)
        except passthrough:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary
            return _failure(tool, call_id, error, stated, bound)
        return _success(tool, call_id, output, stated, bound)


async def arun_call(
    tool: BaseTool,
    call_id: str,
    args: Mapping[str, Any] | str,
    context: CallContext | None = None,
    *,
    call: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
    config: RunnableConfig | None = None,
    passthrough: Passthrough = (),
) -> Result:
    """Call `tool` as `run_call` does, without blocking the event loop."""
    stated = declaration(tool)
    with bind_context(context) as bound:
        try:
            checked = _arguments(tool, args, stated, bound)
            if call is not None and injects(tool):
                output = await _awaited(call(checked), stated.timeout_s)
            elif awaits(tool):
                output = await _awaited(_ainvoke(tool, call_id, checked, config), stated.timeout_s)
            else:
                started = _start(partial(_invoke, tool, call_id, checked, config))
                output = await _awaited(asyncio.wrap_future(started), stated.timeout_s)
        except passthrough:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary
            return _failure(tool, call_id, error, stated, bound)
        return _success(tool, call_id, output, stated, bound)


def awaits(tool: BaseTool) -> bool:
    """Whether `tool` has an asynchronous form of its own."""
    if isinstance(tool, StructuredTool | PlainTool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun


def to_message(result: Result, call_id: str, name: str) -> ToolMessage:
    """Return `result` as the message that answers the call `call_id`."""
    status = "error" if result.error else "success"
    return ToolMessage(content=result.text, tool_call_id=call_id, name=name, status=status)


class _LateError(Exception):
    """The tool was still running at its timeout."""


def _arguments(
    tool: BaseTool, args: Mapping[str, Any] | str, stated: Declaration, bound: CallContext
) -> dict[str, Any]:
    """Return the arguments as a dict, if this tier and agent may call the tool at all."""
    for allowed, name, kind in (
        (stated.tiers, bound.tier, "tier"),
        (stated.agents, bound.agent, "agent"),
    ):
        if allowed is not None and name not in allowed:
            raise InputError(
                f"{tool.name!r} may not be called by the {kind} {name!r}",
                hint="go on without it",
            )
    if isinstance(args, str):
        try:
            args = json.loads(args or "{}")
        except ValueError as error:
            raise InputError(
                f"the arguments are no JSON: {error}", hint="call it again with a JSON object"
            ) from error
    if not isinstance(args, Mapping):
        raise InputError(
            f"the arguments are a {type(args).__name__}", hint="call it again with a JSON object"
        )
    return dict(args)


def _invoke(
    tool: BaseTool, call_id: str, args: dict[str, Any], config: RunnableConfig | None
) -> Any:
    return tool.invoke(_input(tool, call_id, args), config)


async def _ainvoke(
    tool: BaseTool, call_id: str, args: dict[str, Any], config: RunnableConfig | None
) -> Any:
    return await tool.ainvoke(_input(tool, call_id, args), config)


def blocks(tool: BaseTool) -> bool:
    """Whether `tool` has a synchronous form."""
    if isinstance(tool, StructuredTool | PlainTool):
        return tool.func is not None
    return True


def _input(tool: BaseTool, call_id: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return the bare arguments, or a whole tool call if the tool wants its id injected."""
    if not _wants_id(tool):
        return args
    return {"name": tool.name, "args": args, "id": call_id, "type": "tool_call"}


def injects(tool: BaseTool) -> bool:
    """Whether `tool` has arguments that a graph must inject: its state, store or runtime."""
    if tool._injected_args_keys:  # langchain-core's own finding; it has no public name
        return True
    schema = tool.args_schema
    marks = (
        mark
        for info in getattr(schema, "model_fields", {}).values()
        for mark in (info.metadata if not isinstance(schema, dict) else ())
    )
    kinds = [mark if isinstance(mark, type) else type(mark) for mark in marks]
    return any(
        issubclass(kind, InjectedToolArg) and not issubclass(kind, InjectedToolCallId)
        for kind in kinds
    )


def _wants_id(tool: BaseTool) -> bool:
    schema = tool.args_schema
    if schema is None or isinstance(schema, dict):
        return False
    for info in getattr(schema, "model_fields", {}).values():
        for mark in info.metadata:
            if mark is InjectedToolCallId or isinstance(mark, InjectedToolCallId):
                return True
    return False


def _start(work: Callable[[], Any]) -> Future[Any]:
    """Run `work` on a daemon thread in a copy of this context.

    No thread pool: the interpreter waits at exit for a pool's threads, one that hangs included.
    """
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    here = contextvars.copy_context()

    def run() -> None:
        try:
            value = here.run(work)
        except BaseException as error:  # noqa: BLE001  # handed to the caller as it is
            future.set_exception(error)
        else:
            future.set_result(value)

    threading.Thread(target=run, name="agentmesh-tool", daemon=True).start()
    return future


def _within(work: Callable[[], Any], timeout_s: float | None) -> Any:
    return work() if timeout_s is None else _waited(_start(work), timeout_s)


def _waited(future: Future[Any], timeout_s: float | None) -> Any:
    try:
        return future.result(timeout_s)
    except FutureTimeout:
        if future.done():
            raise  # the tool's own TimeoutError
        raise _LateError from None


def _looped(
    tool: BaseTool,
    call_id: str,
    args: dict[str, Any],
    config: RunnableConfig | None,
    timeout_s: float | None,
) -> Any:
    """Run an asynchronous tool on a loop and thread of its own, whatever runs on this one."""

    def run() -> Any:
        return asyncio.run(_awaited(_ainvoke(tool, call_id, args, config), timeout_s))

    return _waited(_start(run), None if timeout_s is None else timeout_s + _GRACE_S)


async def _awaited(work: Awaitable[Any], timeout_s: float | None) -> Any:
    """Await `work` up to its timeout; then cancel it without waiting for it to agree."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise _LateError
    return task.result()


def _success(
    tool: BaseTool, call_id: str, output: Any, stated: Declaration, bound: CallContext
) -> Result:
    error, content = False, output
    if isinstance(output, ToolMessage):
        error, content = output.status == "error", output.content
    elif _is_pair(tool, output):
        content = output[0]
    whole = text_of(content)
    text = cut(whole, stated.max_chars)
    lost = whole if len(whole) > stated.max_chars else ""
    if stated.trust == "untrusted":
        text = _delimited(text, tool, call_id, bound)
    return Result(text, error, not error and stated.ends_turn(text), raw=output, whole=lost)


def _delimited(text: str, tool: BaseTool, call_id: str, bound: CallContext) -> str:
    """Mark `text` as data; the mark is the same in every replay and unknown to its author."""
    key = bound.idempotency_key or idempotency_key(bound, tool.name, {})
    return delimit(text, tool=tool.name, mark=canonical.sha(key + call_id)[:_MARK_DIGITS])


def _is_pair(tool: BaseTool, output: Any) -> bool:
    """Whether `output` is a pair of content and artifact."""
    return (
        tool.response_format == "content_and_artifact"
        and isinstance(output, tuple)
        and len(output) == 2
    )


def _failure(
    tool: BaseTool, call_id: str, error: BaseException, stated: Declaration, bound: CallContext
) -> Result:
    text, unknown = _explained(tool, error, stated)
    text = cut(canonical.clean(text), min(stated.max_chars, _FAILURE_CHARS))
    if stated.trust == "untrusted" and not _is_ours(tool, error):
        text = _delimited(text, tool, call_id, bound)
    return Result(f"Error: {text}", error=True, unknown=unknown)


def _is_ours(tool: BaseTool, error: BaseException) -> bool:
    """Whether the words of `error` are ours or pydantic's on the arguments, not the tool's."""
    if isinstance(error, ValidationError):
        return error.title == getattr(tool.args_schema, "__name__", "")
    return isinstance(error, AgentmeshError | _LateError)


def _explained(tool: BaseTool, error: BaseException, stated: Declaration) -> tuple[str, bool]:
    """Return what a model should know about a failure, and whether its outcome is unknown."""
    if isinstance(error, _LateError):
        late = f"{tool.name!r} did not answer within {stated.timeout_s:g} s"
        if stated.transaction:
            return f"{late}, and what it wrote is undone; ask for less, or go on without it", False
        if stated.side_effect == "none" or stated.idempotent:
            return f"{late}; ask for less, or go on without it", False
        return f"{late} and may still take effect; do not repeat it, check first", True
    if isinstance(error, AgentmeshError):
        told = f"{error}; {error.hint}" if error.hint else str(error)
        return told, isinstance(error, OutcomeUnknownError)
    if isinstance(error, ValidationError):
        fields = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False)[:5]
        )
        return f"{fields}; call {tool.name!r} again with arguments that fit its schema", False
    if isinstance(error, ToolException):
        return str(error)[:_ERROR_CHARS] or f"{tool.name!r} failed", False
    what = str(error).strip().splitlines()[0][:_ERROR_CHARS] if str(error).strip() else ""
    kind = type(error).__name__
    told = f"{kind}: {what}" if what else kind
    return f"{tool.name!r} failed: {told}; try other arguments, or go on without it", False
