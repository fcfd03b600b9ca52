"""Fan-out: of parallel calls that share a cold prefix, one pays for the write, the rest read it.

The first call to arrive leads. The others wait until its answer has begun, which is when a vendor
can read what it wrote. A leader that fails frees the others, one of which leads next; nobody waits
longer than `wait_s` in all, whatever happens to the leaders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import asynccontextmanager, contextmanager, suppress
from threading import Lock
from typing import Self

WAIT_S = 20.0
"""Seconds that a call waits for others to write its prefix."""

Cold = Callable[[], str | None]
"""Returns the name of the prefix that is cold now, or None where there is nothing to wait for."""


class Lead:
    """Leadership of a cold prefix; it ends with the first token, or with the context."""

    def __init__(self, fan_out: FanOut, key: str) -> None:
        self._fan_out = fan_out
        self._key = key
        self.begun: Future[None] = Future()

    def end(self) -> None:
        """Let the others go on: they look again whether the prefix is warm."""
        self._fan_out.release(self._key, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class FanOut:
    """Lets one call at a time through to a cold prefix, in this process.

    >>> fan_out = FanOut()
    >>> with fan_out.passed(lambda: "core") as lead:
    ...     lead is not None
    True
    """

    def __init__(self, wait_s: float = WAIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s = wait_s
        self._clock = clock
        self._leads: dict[str, Lead] = {}
        self._lock = Lock()

    @contextmanager
    def passed(self, cold: Cold) -> Iterator[Lead | None]:
        """Wait while another call writes the prefix; the context holds the lead, if it is ours."""
        until = self._clock() + self._wait_s
        while (key := cold()) is not None:
            lead, ours = self._join(key)
            if ours:
                with lead:
                    yield lead
                return
            left = until - self._clock()
            if left <= 0 or not wait_for([lead.begun], left).done:
                break
        yield None

    @asynccontextmanager
    async def apassed(self, cold: Cold) -> AsyncIterator[Lead | None]:
        """Do as `passed`, without blocking the event loop."""
        until = self._clock() + self._wait_s
        while (key := cold()) is not None:
            lead, ours = self._join(key)
            if ours:
                with lead:
                    yield lead
                return
            left = until - self._clock()
            if left <= 0 or not (await asyncio.wait([_wrapped(lead.begun)], timeout=left))[0]:
                break
        yield None

    def release(self, key: str, lead: Lead) -> None:
        """End a leadership, once; waiting calls look again."""
        with self._lock:
            if self._leads.get(key) is lead:
                del self._leads[key]
        if not lead.begun.done():
            lead.begun.set_result(None)

    def _join(self, key: str) -> tuple[Lead, bool]:
        """Return who leads for a prefix, and whether that is the caller."""
        with self._lock:
            found = self._leads.get(key)
            if found is not None:
                return found, False
            lead = self._leads[key] = Lead(self, key)
            return lead, True


def _wrapped(future: Future[None]) -> asyncio.Future[None]:
    """Return a future of this loop that nobody's cancellation carries back to the leader's."""
    loop = asyncio.get_running_loop()
    mine: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not mine.done():
            mine.set_result(None)

    def done(_: Future[None]) -> None:
        with suppress(RuntimeError):  # its loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(settle)

    future.add_done_callback(done)
    return mine
