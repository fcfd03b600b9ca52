"""What is told where memory or disk comes to its end."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from agentmesh.errors import AgentmeshError, ConfigError

# As CUDA, torch on a processor, the loader of shared objects, and the start of a thread say it.
_MEMORY = ("out of memory", "allocate memory", "failed to map segment", "can't start new thread")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def resources() -> Iterator[None]:
    """Turn the end of memory or disk into one line that says so."""
    try:
        yield
    except AgentmeshError:
        raise
    except Exception as error:  # whatever library met the limit raises a type of its own
        exhausted = out_of(error)
        if exhausted is None:
            raise
        raise exhausted from error


def out_of(error: BaseException) -> ConfigError | None:
    """Return what to tell where an error says that memory or disk is at its end, else None."""
    said = str(error).lower()
    if isinstance(error, MemoryError) or any(words in said for words in _MEMORY):
        return ConfigError(
            "the machine ran out of memory",
            hint="what is live goes on; give fewer calls, a smaller batch or base, or use LoRA",
        )
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL or any(f"os error {number})" in said for number in _FULL):
        return ConfigError("the disk is full", hint="what is live goes on; free some space")
    return None
