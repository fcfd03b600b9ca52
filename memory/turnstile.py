"""Who is next: threads and tasks of a process take a session's turns in order of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from agentmesh.errors import BusyError
from agentmesh.memory.twins import wait

T = TypeVar("T")

POLL_S = 0.05
"""How often the first in line looks whether another process has freed the session."""


class _Place:
    """A place in a line; it is called when it may be its turn."""

    def __init__(self) -> None:
        self.called: Future[None] = Future()

    def call(self) -> None:
        if not self.called.done():
            self.called.set_result(None)


class Turnstile:
    """Lines of those who wait, one per session."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all that wait: after a fork they are the parent's."""
        self._mutex = threading.Lock()
        self._lines: dict[str, deque[_Place]] = {}

    def take(self, session: str, attempt: Callable[[bool], T], wait_s: float) -> T:
        """Return what `attempt` returns, as soon as it no longer raises BusyError.

        Args:
            session: whose line to join.
            attempt: told whether it was tried before.
            wait_s: how long to wait; BusyError after that.
        """
        deadline = time.monotonic() + wait_s
        place = _Place()
        with self._mutex:
            line = self._lines.setdefault(session, deque())
            line.append(place)
        again = False
        try:
            while True:
                if line[0] is place:
                    try:
                        return attempt(again)
                    except BusyError:
                        again = True
                left = deadline - time.monotonic()
                if left <= 0:
                    raise BusyError(
                        f"session {session!r} is answering another message",
                        hint=f"it did not finish within {wait_s:g} s; try again",
                    )
                wait(place.called, min(left, POLL_S))
                place.called = Future()
        finally:
            self._leave(session, line, place)

    def free(self, session: str) -> None:
        """Wake the first in a session's line: its turn has ended."""
        with self._mutex:
            line = self._lines.get(session)
            if line:
                line[0].call()

    def _leave(self, session: str, line: deque[_Place], place: _Place) -> None:
        with self._mutex:
            was_woken = place.called.done()
            line.remove(place)
            if not line:
                del self._lines[session]
            elif was_woken:
                line[0].call()
