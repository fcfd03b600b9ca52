"""A student beside the tier that serves: it answers too, and nobody waits for it or hears it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from agentmesh.distill.evaluate import agree
from agentmesh.distill.student import Student
from agentmesh.distill.traces import Message
from agentmesh.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a shadow has seen: `skipped` were over the budget or came while it was busy."""

    seen: int = 0
    answered: int = 0
    agreed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def agreement(self) -> float | None:
        """The share of its answers that did what the served one did; None before the first."""
        return self.agreed / self.answered if self.answered else None


class Shadow:
    """Lets a student answer what was answered already, in a thread of its own.

    `offer` never waits: what comes while `waiting` prompts wait is skipped. A student that fails
    is counted and harms nobody. Close it, or use it in a `with` statement.

    Example:
        with Shadow(student, budget=1_000) as shadow:
            shadow.offer(messages, tools, answer)

    Args:
        student: what is tried.
        budget: how many prompts it may answer in all.
        waiting: how many may wait.
        told: told what was seen after each prompt, and at the end (with True), in that thread.
    """

    def __init__(
        self,
        student: Student,
        *,
        budget: int = 1_000,
        waiting: int = 16,
        told: Callable[[Shadowed, bool], None] | None = None,
    ) -> None:
        if budget < 1 or waiting < 1:
            raise ConfigError(f"budget={budget!r}, waiting={waiting!r}", hint="1 or more of each")
        self._student = student
        self._told = told or (lambda seen, last: None)
        self._left = budget
        self._queue: queue.Queue[tuple[Any, Any, Message] | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._counts = {"seen": 0, "answered": 0, "agreed": 0, "failed": 0, "skipped": 0}
        self._thread = threading.Thread(target=self._work, name="agentmesh-shadow", daemon=True)
        self._thread.start()

    def offer(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        answer: Message,
    ) -> bool:
        """Hand over a prompt and its served answer; False where it was skipped."""
        with self._lock:
            if self._left > 0:
                try:
                    self._queue.put_nowait((messages, tools, answer))
                except queue.Full:
                    pass
                else:
                    self._left -= 1
                    return True
            self._counts["skipped"] += 1
            return False

    @property
    def result(self) -> Shadowed:
        """What it has seen so far."""
        with self._lock:
            return Shadowed(**self._counts)

    def close(self) -> Shadowed:
        """Finish what waits and return what was seen."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        return self.result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._count(*self._try(*item))
            self._told(self.result, False)
        self._told(self.result, True)

    def _try(self, messages: Any, tools: Any, answer: Message) -> tuple[str, ...]:
        try:
            guess = self._student.answer(messages, tools)
        except Exception:  # noqa: BLE001  # whatever a candidate does, the served agent goes on
            return ("seen", "failed")
        if guess.answer is None:
            return ("seen",)
        return (
            ("seen", "answered", "agreed") if agree(answer, guess.answer) else ("seen", "answered")
        )

    def _count(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self._counts[name] += 1
