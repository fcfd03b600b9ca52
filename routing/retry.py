"""The one retry loop: few requests, one deadline, the vendor's wish honoured, a budget for all.

Vendors' SDKs are told never to retry, so that three layers cannot multiply. The loop decides in
one place for the synchronous and the asynchronous call alike.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from agentmesh.errors import ConfigError, TierError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one tier is tried: `requests` in all, the first included."""

    requests: int = 3
    deadline_s: float = 60.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= 10:
            raise ConfigError(f"requests={self.requests!r}", hint="give 1 to 10 requests per tier")
        if not self.deadline_s > 0:
            raise ConfigError(f"deadline_s={self.deadline_s!r}", hint="give seconds above 0")
        if not 0 <= self.first_wait_s <= self.longest_wait_s:
            raise ConfigError(
                f"first_wait_s={self.first_wait_s!r} is not within 0 and longest_wait_s="
                f"{self.longest_wait_s!r}",
                hint="the first wait is the shortest",
            )


class RetryBudget:
    """Bounds retries over all calls of a process: a share of the requests, plus a reserve.

    While a vendor is down, every caller would otherwise send three times the load.
    """

    def __init__(self, share: float = 0.2, reserve: int = 10) -> None:
        if not 0 <= share <= 1 or reserve < 0:
            raise ConfigError(
                f"retry budget share={share!r}, reserve={reserve!r}",
                hint="the share is within 0 and 1, the reserve 0 or more",
            )
        self._share, self._limit = share, float(reserve)
        self._left = float(reserve)
        self._lock = Lock()

    def request(self) -> None:
        """Count a first request; it earns its share of a retry."""
        with self._lock:
            self._left = min(self._limit, self._left + self._share)

    def take(self) -> bool:
        """Take one retry, if there is one left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class StepLimits:
    """What one step may still spend over all its tiers: requests, and time until the deadline.

    `requests` are all that are left, `per_tier` those that any one tier may send, its siblings'
    included. One object goes through the whole step, whichever tiers draft it.
    """

    def __init__(
        self,
        *,
        requests: int = 6,
        per_tier: int = 3,
        deadline_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests < 1 or per_tier < 1 or not deadline_s > 0:
            raise ConfigError(
                f"step limits requests={requests!r}, per_tier={per_tier!r}, "
                f"deadline_s={deadline_s!r}",
                hint="give at least 1 request and more than 0 seconds",
            )
        self.requests, self.per_tier = requests, per_tier
        self.deadline = clock() + deadline_s
        self._sent: Counter[str] = Counter()
        self._clock = clock

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; below 0 after it."""
        return self.deadline - self._clock()

    def left(self, tier: str = "") -> int:
        """Return the requests that a tier may still send; 0 once the time is up."""
        if self.left_s <= 0:
            return 0
        return max(0, min(self.requests, self.per_tier - self._sent[tier]))

    def take(self, tier: str = "") -> None:
        """Count a request of a tier."""
        self.requests -= 1
        self._sent[tier] += 1


def call_with_retry(
    fn: Callable[[float], T],
    *,
    policy: RetryPolicy | None = None,
    limits: StepLimits | None = None,
    budget: RetryBudget | None = None,
    tier: str = "",
    on_failure: Callable[[TierError], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Return `fn(seconds left)`, called again after a retryable `TierError`.

    `fn` is told how many seconds are left and must not take longer. The last error is raised
    when it cannot be retried, or the requests, the budget or the time are used up.
    """
    loop = Retries(policy, limits, budget, tier=tier, clock=clock, jitter=jitter)
    while True:
        seconds = loop.begin()
        try:
            return fn(seconds)
        except TierError as error:
            if on_failure is not None:
                on_failure(error)
            wait = loop.wait_after(error)
            if wait is None:
                raise
        if wait > 0:
            sleep(wait)


async def acall_with_retry(
    fn: Callable[[float], Awaitable[T]],
    *,
    policy: RetryPolicy | None = None,
    limits: StepLimits | None = None,
    budget: RetryBudget | None = None,
    tier: str = "",
    on_failure: Callable[[TierError], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Do as `call_with_retry`, awaiting; a call that overruns the deadline is cancelled."""
    loop = Retries(policy, limits, budget, tier=tier, clock=clock, jitter=jitter)
    while True:
        seconds = loop.begin()
        try:
            async with asyncio.timeout(seconds):
                return await fn(seconds)
        except (TierError, TimeoutError) as cause:
            error = cause if isinstance(cause, TierError) else overrun(seconds)
            if on_failure is not None:
                on_failure(error)
            wait = loop.wait_after(error)
            if wait is None:
                if error is cause:
                    raise
                raise error from cause
        if wait > 0:
            await sleep(wait)


class Retries:
    """The decisions of the loop over one model's requests, without its sending and waiting.

    Args:
        limits: of the step, if the loop shares them with others.
        tier: on whose account the requests are.
        spare: requests of the tier that are left for its other models.
        reserve: requests of the step that are left for the tiers above.
    """

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        limits: StepLimits | None = None,
        budget: RetryBudget | None = None,
        *,
        tier: str = "",
        spare: int = 0,
        reserve: int = 0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy, self._budget = policy or RetryPolicy(), budget
        self._clock, self._jitter = clock, jitter
        self._limits = limits or StepLimits(
            requests=self._policy.requests,
            per_tier=self._policy.requests,
            deadline_s=self._policy.deadline_s,
            clock=clock,
        )
        self._deadline = min(self._limits.deadline, clock() + self._policy.deadline_s)
        self._tier, self._spare, self._reserve = tier, spare, reserve
        self._sent = 0

    def begin(self) -> float:
        """Count a request and return the seconds that it may take."""
        left = self._deadline - self._clock()
        if left <= 0 or self._limits.left(self._tier) <= 0:
            what = "time" if left <= 0 else "requests"
            raise TierError(
                f"the step has no {what} left for this tier",
                kind="timeout" if left <= 0 else "api",
                tier=self._tier,
                hint="raise the step's deadline or its number of requests",
            )
        if self._sent == 0 and self._budget is not None:
            self._budget.request()
        self._sent += 1
        self._limits.take(self._tier)
        return left

    def wait_after(self, error: TierError) -> float | None:
        """Return the seconds to wait before the next request, or None to give up."""
        if not error.retryable or self._sent >= self._policy.requests:
            return None
        limits = self._limits
        if limits.left(self._tier) <= self._spare or limits.requests <= self._reserve:
            return None
        backoff = min(
            self._policy.longest_wait_s, self._policy.first_wait_s * 2 ** (self._sent - 1)
        )
        wait = error.retry_after_s
        if wait is None:
            wait = backoff * (0.5 + self._jitter() / 2)
        if self._clock() + wait >= self._deadline:
            return None
        if self._budget is not None and not self._budget.take():
            return None
        return max(0.0, wait)


def overrun(seconds: float) -> TierError:
    """Return the failure of a call that was not answered in time."""
    return TierError(
        f"no complete answer within {seconds:.1f} s",
        kind="timeout",
        hint="raise the deadline or use a faster tier",
    )
