"""Who is next: the threads of a process take a session's turns in order of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from agentmesh.errors import BusyError

T = TypeVar("T")

POLL_S = 0.05
"""How often the first in line looks whether another process has freed the session."""


class Turnstile:
    """Lines of waiting threads, one per session."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all that wait: after a fork they are the parent's."""
        self._mutex = threading.Lock()
        self._lines: dict[str, deque[threading.Event]] = {}

    def take(self, session: str, attempt: Callable[[bool], T], wait_s: float) -> T:
        """Return what `attempt` returns, as soon as it no longer raises BusyError.

        Args:
            session: whose line to join.
            attempt: told whether it was tried before.
            wait_s: how long to wait; BusyError after that.
        """
        deadline = time.monotonic() + wait_s
        place = threading.Event()
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
                place.wait(min(left, POLL_S))
                place.clear()
        finally:
            self._leave(session, line, place)

    def free(self, session: str) -> None:
        """Wake the first in a session's line: its turn has ended."""
        with self._mutex:
            line = self._lines.get(session)
            if line:
                line[0].set()

    def _leave(self, session: str, line: deque[threading.Event], place: threading.Event) -> None:
        with self._mutex:
            was_woken = place.is_set()
            line.remove(place)
            if not line:
                del self._lines[session]
            elif was_woken:
                line[0].set()
