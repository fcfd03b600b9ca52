"""Cache tests: a change that breaks a prompt's prefix fails, offline and at no cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.agent import Agent
    from agentmesh.audit.accounts import Accounts, LastMiss
    from agentmesh.economy.misses import Cause
    from agentmesh.emulator import Brain
    from agentmesh.emulator.server import Emulator
    from agentmesh.memory import Memory

UNEXPLAINED = frozenset({"eviction", "unknown"})
"""Causes that no emulated vendor has: what it did not read was not the same bytes."""

SHOWN = 5


def assert_cache(
    memory: Memory | Agent,
    *,
    read_share: float | None = None,
    unexplained: int = 0,
    allowed: Collection[Cause] | None = None,
) -> Accounts:
    """Return a ledger's report, or fail if its cache was used worse than this.

    Args:
        memory: whose calls are looked at, or an agent that has one.
        read_share: at least this share of all input tokens was read from the cache.
        unexplained: at most this many tokens were missed though their prompt had not changed.
        allowed: the causes that a miss may have; any other one fails. All if None.

    Raises:
        AssertionError: says which calls missed, why, and the place where their prompts parted.
    """
    from agentmesh.audit.accounts import add_up

    if read_share is not None and not 0 <= read_share <= 1:
        raise ConfigError(f"read_share={read_share!r} is no share", hint="between 0 and 1")
    report = add_up(_memory(memory), last=1_000_000)
    if not report.total.calls:
        raise AssertionError("no model was called, so there is no cache to look at")
    problems = []
    if read_share is not None and report.total.read_share < read_share:
        problems.append(
            f"{report.total.read_share:.1%} of the input was read from the cache,"
            f" not {read_share:.1%}"
        )
    lost = [miss for miss in report.misses if miss.cause in UNEXPLAINED]
    if sum(miss.tokens for miss in lost) > unexplained:
        tokens = sum(miss.tokens for miss in lost)
        problems.append(f"{tokens:,} tokens were missed without a reason, not {unexplained:,}")
    refused = [] if allowed is None else [m for m in report.misses if m.cause not in allowed]
    if refused:
        causes = ", ".join(sorted({miss.cause for miss in refused}))
        problems.append(f"the cache missed because of: {causes}")
    if problems:
        shown = refused or lost or list(report.misses)
        raise AssertionError("\n".join([*problems, *map(_line, shown[:SHOWN])]))
    return report


def _memory(source: Any) -> Memory:
    found: Memory = getattr(source, "memory", source)
    return found


def _line(miss: LastMiss) -> str:
    line = f"  call {miss.call} of session {miss.session!r}: {miss.tokens:,} tokens, {miss.cause}"
    where = miss.parting
    if where is None:
        return f"{line} {miss.place}".rstrip()
    place = f"at {where.segment}, character {where.offset:,}"
    return f"{line} {place}\n    before {where.before!r}\n    now    {where.after!r}"


class CacheLedger:
    """A vendor to call and a ledger to look at, for the length of a test."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._memory: Memory | None = None

    def serve(self, brain: Brain | Mapping[str, Brain] | None = None, **options: Any) -> Emulator:
        """Return a running emulator of the vendors; it stops when the test ends."""
        from agentmesh.emulator import echo
        from agentmesh.emulator.server import Emulator

        return self._open.enter_context(Emulator(brain or echo, **options))

    def watch(self, memory: Memory | Agent) -> None:
        """Look at the calls of this memory, or of this agent's."""
        self._memory = _memory(memory)

    def assert_cache(
        self,
        *,
        read_share: float | None = None,
        unexplained: int = 0,
        allowed: Collection[Cause] | None = None,
    ) -> Accounts:
        """Fail if the watched calls used the cache worse than this; see `assert_cache`."""
        if self._memory is None:
            raise ConfigError("no ledger is watched", hint="call cache_ledger.watch(agent) first")
        return assert_cache(
            self._memory, read_share=read_share, unexplained=unexplained, allowed=allowed
        )

    def close(self) -> None:
        """Stop what was started."""
        self._open.close()
