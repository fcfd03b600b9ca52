"""Async twins: code that is written once blocks a thread, or suspends a task of asyncio.

A twin runs the method itself, in a greenlet on the event loop's thread. Where that code would
wait (for the database, or for its turn) the greenlet is left, the task awaits, and other tasks
run: who waits holds no thread. A write that has begun is brought to its end before a cancellation
takes effect, so that what the database holds and what the process knows of it agree.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent import futures
from contextlib import suppress
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
Self = TypeVar("Self")
T = TypeVar("T")


class _Stop(NamedTuple):
    """What the code of a twin waits for."""

    future: futures.Future[Any]
    timeout_s: float | None
    binding: bool


class _Code(greenlet):
    """A method under way on behalf of a task."""


def suspends() -> bool:
    """Say whether the code at hand runs on behalf of a task, which can be suspended."""
    return isinstance(getcurrent(), _Code)


def wait(
    future: futures.Future[Any], timeout_s: float | None = None, *, binding: bool = False
) -> None:
    """Wait until a future is done or the time is up: suspend the task, or block the thread.

    A `binding` wait does not end when the task is cancelled, unless it is cancelled twice.
    """
    code = getcurrent()
    if isinstance(code, _Code) and code.parent is not None:
        code.parent.switch(_Stop(future, timeout_s, binding))
    else:
        futures.wait([future], timeout_s)


async def run(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run code whose waits suspend this task, and return its result.

    Args:
        work: the code; it runs on this thread.
        undo: takes the result back, where a cancellation means that nobody receives it.
    """
    code = _Code(work, getcurrent())
    code.gr_context = getcurrent().gr_context
    cancelled: asyncio.CancelledError | None = None
    stop: Any = code.switch()
    while not code.dead:
        try:
            if cancelled is not None and not stop.binding:
                raise cancelled
            await _done(stop.future, stop.timeout_s)
        except asyncio.CancelledError as error:
            if cancelled is None and stop.binding:
                cancelled = error  # and wait for the same future again
                continue
            stop = code.throw(error)
        else:
            stop = code.switch()
    if cancelled is not None:
        if undo is not None:
            await run(functools.partial(undo, stop))
        raise cancelled
    return stop  # type: ignore[no-any-return]  # what `work` returned


def twin(
    method: Callable[Concatenate[Self, P], T], *, undo: Callable[[T], object] | None = None
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]:
    """Return a method's async twin, to be called by its name with an `a` before it.

    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         return f"Hello, {name}!"
    ...
    ...     agreet = twin(greet)
    >>> asyncio.run(Greeter().agreet("Ann"))
    'Hello, Ann!'
    """
    name = method.__name__

    @functools.wraps(method)
    async def other(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await run(functools.partial(getattr(self, name), *args, **kwargs), undo)

    other.__name__ = f"a{name}"
    other.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}".lstrip(".")
    other.__doc__ = f"Do as `{name}`, without blocking the event loop."
    return other


async def _done(future: futures.Future[Any], timeout_s: float | None) -> None:
    """Wait for a future of threads; neither its error nor a cancellation is carried over."""
    loop = asyncio.get_running_loop()
    mine: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not mine.done():
            mine.set_result(None)

    def done(_: futures.Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(settle)

    future.add_done_callback(done)
    if timeout_s is None:
        await mine
    else:
        await asyncio.wait([mine], timeout=timeout_s)
