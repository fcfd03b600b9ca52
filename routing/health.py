"""A circuit breaker per model: who has failed repeatedly is left alone, but for one probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Literal, NamedTuple

from agentmesh.errors import ConfigError

State = Literal["closed", "open", "probing"]

FAILURES = 3
"""Failures in a row after which a model is left alone."""

PROBE_S = 30.0
"""How often a model that is left alone gets one request."""

OUR_FAULT = ("invalid_request", "context_overflow", "not_found")
"""Kinds of failure that say nothing about how the model is doing."""


class Past(NamedTuple):
    """A request of the ledger: which model, what came of it (`ok`, `check:...`, `error:KIND`)."""

    model: str
    outcome: str
    at: float


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """How a model is doing: `open` means that no call is made until `retry_in_s` has passed."""

    model: str
    state: State
    failures: int
    retry_in_s: float
    last_error: str


@dataclass(slots=True)
class _Record:
    failures: int = 0
    opened: float | None = None
    probing: bool = False
    last_error: str = ""


class Health:
    """Knows which models may be called: one opens after `failures` in a row, then gets one probe
    every `probe_s` seconds until it answers.

    Example:
        health = Health()
        if health.allows(model):
            try: ...; health.success(model)
            except TierError as error: health.failure(model, str(error))
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        probe_s: float = PROBE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or not probe_s > 0:
            raise ConfigError(
                f"failures={failures!r}, probe_s={probe_s!r}",
                hint="at least 1 failure, and more than 0 seconds",
            )
        self._limit, self._probe_s, self._clock = failures, probe_s, clock
        self._records: dict[str, _Record] = {}
        self._lock = Lock()

    def allows(self, model: str, *, last_resort: bool = False) -> bool:
        """Return whether `model` may be called now; of an open one this takes the probe.

        A step that no other model can take need not wait until a probe is due (`last_resort`):
        it waits only while another probe is on its way.
        """
        with self._lock:
            record = self._records.get(model)
            if record is None or record.opened is None:
                return True
            due = self._clock() - record.opened >= self._probe_s
            if not due and not (last_resort and not record.probing):
                return False
            record.opened = self._clock()  # the next probe is due only after this one's time
            record.probing = True
            return True

    def available(self, model: str) -> bool:
        """Return whether `allows` would say yes, without taking the probe."""
        with self._lock:
            record = self._records.get(model)
            if record is None or record.opened is None:
                return True
            return self._clock() - record.opened >= self._probe_s

    def success(self, model: str) -> None:
        """Close the circuit: the model has answered."""
        with self._lock:
            self._records.pop(model, None)

    def failure(self, model: str, error: str = "", *, at: float | None = None) -> None:
        """Count a failure; at the limit, or when a probe fails, the circuit opens."""
        with self._lock:
            record = self._records.setdefault(model, _Record())
            record.failures += 1
            record.last_error = error
            if record.probing or record.failures >= self._limit:
                record.opened = self._clock() if at is None else at
                record.probing = False

    def replay(self, past: Iterable[Past]) -> None:
        """Learn from requests that the ledger tells of, oldest first; the clock is the ledger's."""
        for model, outcome, at in past:
            kind = outcome.removeprefix("error:")
            if kind == outcome:
                self.success(model)
            elif kind not in OUR_FAULT:
                self.failure(model, kind, at=at)

    def unknown(self, model: str) -> None:
        """Give a probe back that told nothing: the request itself was at fault."""
        with self._lock:
            if (record := self._records.get(model)) is not None:
                record.probing = False

    def status(self) -> list[ModelHealth]:
        """Return every model that has failed since it last answered, by name."""
        with self._lock:
            return [self._one(name, self._records[name]) for name in sorted(self._records)]

    def _one(self, model: str, record: _Record) -> ModelHealth:
        if record.opened is None:
            return ModelHealth(model, "closed", record.failures, 0.0, record.last_error)
        left = max(0.0, self._probe_s - (self._clock() - record.opened))
        state: State = "probing" if record.probing else "open"
        return ModelHealth(model, state, record.failures, left, record.last_error)
