"""Tools of MCP servers, with the same declaration on top as any other tool.

A server is a stranger: what it says of its tools is delimited text, what its tools return is
untrusted, they are taken to act outside unless declared otherwise, and a definition that changes
while the agent runs makes its tool refuse.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, Self, TypeVar

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from typing_extensions import Unpack

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError, OutcomeUnknownError, missing_extra
from agentmesh.tools.declarations import SLOT, Declaration, Terms, check_name, declared, first_line
from agentmesh.tools.foreign import bare_schema, described
from agentmesh.tools.schema import schema_tool
from agentmesh.tools.toolset import ORIGIN

T = TypeVar("T")

STRANGER = Declaration(side_effect="external", trust="untrusted")
"""What is held of a server's tool about which nothing was declared."""

MAX_TOOLS = 64
IDLE_S = 1.0
"""After a silence as long a server is asked whether it still lives before it gets a call."""

_PING_S = 5.0
_GRACE_S = 1.0


class McpServer:
    """An MCP server: a process that is started here, or a URL.

    It is started at the first need and again if it has died; `close` (or the end of the `with`
    block) ends it with everything that it started. It sees none of this process's environment
    but what `env` gives it (and PATH, HOME and the like).

    Example:
        with McpServer("notes", ["python", "notes.py"]) as notes:
            tools = notes.tools(only=["search"], each={"search": {"side_effect": "none"}})
            agent = Agent("reader", "You look things up.", tools=tools, tiers=tiers)

    Args:
        name: for messages to people and models.
        command: the program and its arguments.
        url: of a streamable-HTTP server, instead of `command`.
        env: variables for the program.
        cwd: where the program starts.
        headers: sent with every request to the URL.
        start_s: how long it may take to start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str] = (),
        *,
        url: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        start_s: float = 20.0,
    ) -> None:
        check_name(name)
        if isinstance(command, str) or bool(command) == bool(url):
            raise ConfigError(
                f"the MCP server {name!r} needs a command or a URL",
                hint='McpServer("notes", ["python", "notes.py"]) or McpServer("wiki", url=...)',
            )
        self.name = name
        self._connection: dict[str, Any] = (
            {"transport": "streamable_http", "url": url, "headers": dict(headers or {})}
            if url
            else {
                "transport": "stdio",
                "command": command[0],
                "args": list(command[1:]),
                "env": dict(env or {}),
                "cwd": None if cwd is None else str(cwd),
                "encoding_error_handler": "replace",
            }
        )
        self._start_s = start_s
        self._link: _Link | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server; its tools answer with an error from then on."""
        with self._lock:
            self._closed = True
            link, self._link = self._link, None
        if link is not None:
            link.close()
        atexit.unregister(self.close)

    def tools(
        self,
        *,
        only: Iterable[str] | None = None,
        rename: Mapping[str, str] | None = None,
        describe: Mapping[str, str] | None = None,
        each: Mapping[str, Terms] | None = None,
        **terms: Unpack[Terms],
    ) -> list[BaseTool]:
        """Return the server's tools, sorted by name; they stay as they are until asked again.

        Args:
            only: the server's names of the tools to take; all of them if left out.
            rename: their names for the model, by the server's.
            describe: your description of a tool, which replaces all words of the server about it.
            each: what is declared of single tools, by the server's names.
            terms: what is declared of all of them.

        Raises:
            ConfigError: the server does not start, lacks a tool, or describes one unacceptably.
        """
        known = self._live().tools
        wanted = sorted(known if only is None else set(only))
        named, own, stated = rename or {}, describe or {}, each or {}
        for name in sorted({*wanted, *named, *own, *stated}):
            if name not in known:
                raise ConfigError(
                    f"the MCP server {self.name!r} has no tool {name!r}",
                    hint="it has " + (", ".join(sorted(known)) or "none"),
                )
        if len(wanted) > MAX_TOOLS:
            raise ConfigError(
                f"the MCP server {self.name!r} has {len(wanted)} tools, more than {MAX_TOOLS}",
                hint="name the ones that you need with only=[...]",
            )
        base = declared(terms, STRANGER)
        return sorted(
            (
                self._tool(
                    known[name],
                    named.get(name, name),
                    own.get(name),
                    declared(stated.get(name, {}), base),
                )
                for name in wanted
            ),
            key=lambda made: made.name,
        )

    def _tool(
        self, theirs: BaseTool, name: str, words: str | None, stated: Declaration
    ) -> StructuredTool:
        check_name(name)
        schema = _schema(theirs)
        source = f"the MCP server {self.name!r}"
        parameters = bare_schema(name, schema)
        text = words or described(name, source, theirs.description, schema)
        origin = _sha(theirs)
        # `schema_tool` says what is wrong with a schema before anything is made of it.
        made = schema_tool(
            {"name": name, "description": text, "parameters": parameters}, lambda args: ""
        )

        def func(**args: Any) -> Any:
            asked = self._ask(theirs.name, origin, args, stated)
            timeout = None if stated.timeout_s is None else stated.timeout_s + _GRACE_S
            try:
                return self._answer(lambda: asked.result(timeout), stated)
            finally:
                asked.cancel()  # nobody waits for it any more

        async def coroutine(**args: Any) -> Any:
            asked = await asyncio.to_thread(self._ask, theirs.name, origin, args, stated)
            waited = asyncio.wrap_future(asked)
            try:
                await asyncio.wait({waited})
            finally:
                waited.cancel()
            return self._answer(waited.result, stated)

        return made.model_copy(
            update={
                "func": func,
                "coroutine": coroutine,
                "metadata": {SLOT: stated, ORIGIN: origin},
            }
        )

    def _ask(
        self, name: str, origin: str, args: dict[str, Any], stated: Declaration
    ) -> Future[ToolMessage]:
        """Send a call, if the tool is still the one that the agent was given."""
        try:
            link = self._live()
        except ConfigError as error:
            raise InputError(
                f"the MCP server {self.name!r} has ended and does not start again",
                hint="go on without it",
            ) from error
        theirs = link.tools.get(name)
        if theirs is None or _sha(theirs) != origin:
            raise InputError(
                f"the MCP server {self.name!r} has changed what {name!r} is since it was approved",
                hint="go on without it and tell the person: they must look at it again",
            )
        return link.ask(name, args)

    def _answer(self, result: Callable[[], ToolMessage], stated: Declaration) -> ToolMessage:
        """Return a call's answer; a server that died is told apart from a tool that failed."""
        try:
            return result()
        except FutureTimeout as error:
            cause: BaseException = error
            how = "did not answer"
        except (CancelledError, asyncio.CancelledError) as error:
            cause, how = error, "ended"
        except Exception as error:
            if not _is_end(error):
                raise
            cause, how = error, "ended"
        told = f"the MCP server {self.name!r} {how} in the middle of the call"
        if stated.side_effect == "none" or stated.idempotent:
            raise InputError(told, hint="call it again, or go on without it") from cause
        raise OutcomeUnknownError(
            f"{told}, and whether it took effect is unknown",
            hint="do not repeat it; check first, or tell the person",
        ) from cause

    def _live(self) -> _Link:
        """Return a link to a server that lives: the one there is, or a new one."""
        with self._lock:
            if self._closed:
                raise InputError(f"the MCP server {self.name!r} is closed", hint="go on without it")
            link = self._link
            if link is not None and link.lives():
                return link
            if link is not None:
                link.close()
            atexit.register(self.close)
            self._link = None
            self._link = _Link(self.name, self._connection, self._start_s)
            return self._link


class _Link:
    """A session with a server, on an event loop and thread of its own."""

    def __init__(self, name: str, connection: Mapping[str, Any], start_s: float) -> None:
        try:
            import langchain_mcp_adapters  # noqa: F401
        except ImportError as error:
            raise missing_extra("mcp", "McpServer") from error
        self.tools: dict[str, BaseTool] = {}
        self._connection = connection
        self._stale = False
        self._heard = 0.0
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"agentmesh-mcp-{name}", daemon=True
        )
        self._thread.start()
        try:
            ready.result(start_s)
        except FutureTimeout as error:
            self.close()
            raise ConfigError(
                f"the MCP server {name!r} did not start within {start_s:g} s",
                hint="run its command by hand and see what it says",
            ) from error
        except Exception as error:
            self.close()
            raise ConfigError(
                f"the MCP server {name!r} did not start: {first_line(_cause(error))}",
                hint="run its command by hand and see what it says",
            ) from error

    def lives(self) -> bool:
        """Whether the server still answers; its tools are listed anew where it said so."""
        if self._end.is_set() or not self._thread.is_alive():
            return False
        if not self._stale and time.monotonic() - self._heard < IDLE_S:
            return True
        try:
            self._post(self._listed() if self._stale else self._ping()).result(_PING_S)
        except (Exception, CancelledError):  # noqa: BLE001  # whatever it is, a new server is due
            return False
        return True

    def ask(self, name: str, args: dict[str, Any]) -> Future[ToolMessage]:
        """Begin a call; cancelling the future gives it up."""
        return self._post(self._call(name, args))

    def close(self) -> None:
        """End the server and wait until its process is gone."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10.0)

    def _post(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the link's loop, with nothing of the caller's context (its callbacks)."""
        try:
            return contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)
        except RuntimeError:  # the loop has just been closed
            work.close()
            ended: Future[T] = Future()
            ended.cancel()
            return ended

    def _run(self, ready: Future[None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001  # it ends the link, whatever it is
                if not ready.done():
                    ready.set_exception(error)

    async def _serve(self, ready: Future[None]) -> None:
        from langchain_mcp_adapters.sessions import create_session

        async def told(message: Any) -> None:
            from mcp.types import ServerNotification, ToolListChangedNotification

            if isinstance(message, ServerNotification):
                self._stale |= isinstance(message.root, ToolListChangedNotification)

        given: Any = {**self._connection, "session_kwargs": {"message_handler": told}}
        async with create_session(given) as session:
            self._session = session
            begin = asyncio.ensure_future(self._begin())
            end = asyncio.ensure_future(self._end.wait())
            await asyncio.wait({begin, end}, return_when=asyncio.FIRST_COMPLETED)
            if begin.done():
                begin.result()
                ready.set_result(None)
                await end
            begin.cancel()

    async def _begin(self) -> None:
        await self._session.initialize()
        await self._listed()

    async def _listed(self) -> None:
        from langchain_mcp_adapters.tools import load_mcp_tools

        self._stale = False
        self.tools = {tool.name: tool for tool in await load_mcp_tools(self._session)}
        self._heard = time.monotonic()

    async def _ping(self) -> None:
        await self._session.send_ping()
        self._heard = time.monotonic()

    async def _call(self, name: str, args: dict[str, Any]) -> ToolMessage:
        try:
            call = {"name": name, "args": args, "id": name, "type": "tool_call"}
            answer: ToolMessage = await self.tools[name].ainvoke(call)
        except Exception as error:
            if _is_end(error):
                self._end.set()
            raise
        self._heard = time.monotonic()
        return answer


def _schema(theirs: BaseTool) -> dict[str, Any]:
    schema = theirs.args_schema
    return dict(schema) if isinstance(schema, dict) else {"type": "object", "properties": {}}


def _sha(theirs: BaseTool) -> str:
    """Return the hash of a definition as its server gave it."""
    return canonical.sha(canonical.dumps([theirs.name, theirs.description, _schema(theirs)]))


def _is_end(error: BaseException) -> bool:
    """Whether an error says that the server is gone."""
    from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
    from mcp import McpError
    from mcp.types import CONNECTION_CLOSED

    cause = _cause(error)
    if isinstance(cause, McpError):
        return cause.error.code == CONNECTION_CLOSED
    return isinstance(cause, BrokenResourceError | ClosedResourceError | EndOfStream)


def _cause(error: BaseException) -> BaseException:
    """Return the first error of a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
