"""The pace of each model: requests and tokens of the last minute, and how fast it answers.

A vendor's rate limit is kept before the vendor has to say so, and a model that has become too
slow is left out of the choice until its slow answers are a minute old. Known to one process; whoever
sends requests adds what the ledger tells of the others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from threading import Lock

from agentmesh.errors import ConfigError

WINDOW_S = 60.0
LEAST_ANSWERS = 3
"""Answers of the last minute that say how fast a model is."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a model may be asked per minute, and how fast it must answer; None sets no limit.

    >>> Rate(requests=50, latency_s=4.0).tokens is None
    True

    Args:
        requests: per minute.
        tokens: of prompts and answers, per minute.
        latency_s: the median of the last minute that still makes the model a choice.
    """

    requests: int | None = None
    tokens: int | None = None
    latency_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "latency_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value!r}", hint="give more than 0, or None")


@dataclass(slots=True)
class _Window:
    sent: deque[tuple[float, int]] = field(default_factory=deque)
    answers: deque[tuple[float, float]] = field(default_factory=deque)


class Pace:
    """Counts every model's requests, and says how long the next one must wait.

    Example:
        pace = Pace()
        if pace.wait_s(model, rate, tokens=9_000) == 0: pace.sent(model, 9_000); ...
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._lock = Lock()

    def sent(self, model: str, tokens: int) -> None:
        """Count a request that is being made."""
        with self._lock:
            self._window(model).sent.append((self._clock(), tokens))

    def answered(self, model: str, seconds: float) -> None:
        """Note how long a complete answer took."""
        with self._lock:
            self._window(model).answers.append((self._clock(), seconds))

    def wait_s(self, model: str, rate: Rate | None, tokens: int = 0) -> float:
        """Return the seconds until a request of so many tokens is within the rate; 0 for now.

        One that is larger than a whole minute's tokens waits for an empty minute.
        """
        if rate is None or (rate.requests is None and rate.tokens is None):
            return 0.0
        with self._lock:
            sent = self._window(model).sent
            count, total, wait = len(sent), sum(part for _, part in sent), 0.0
            for at, part in sent:
                full = rate.requests is not None and count >= rate.requests
                over = rate.tokens is not None and total + tokens > rate.tokens
                if not (full or over):
                    break
                count, total, wait = count - 1, total - part, at + WINDOW_S - self._clock()
            return max(0.0, wait)

    def slow(self, model: str, rate: Rate | None) -> bool:
        """Return whether a model's answers have lately taken longer than its target."""
        if rate is None or rate.latency_s is None:
            return False
        with self._lock:
            took = [seconds for _, seconds in self._window(model).answers]
        return len(took) >= LEAST_ANSWERS and median(took) > rate.latency_s

    def _window(self, model: str) -> _Window:
        window = self._windows.setdefault(model, _Window())
        since = self._clock() - WINDOW_S
        while window.sent and window.sent[0][0] <= since:
            window.sent.popleft()
        while window.answers and window.answers[0][0] <= since:
            window.answers.popleft()
        return window
