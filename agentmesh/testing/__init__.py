"""What tests of agents need: an emulated vendor that is strict and sends bills, and a cache ledger.

As a pytest plugin it brings the fixture `cache_ledger`, see `agentmesh.testing.plugin`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.emulator import (
        Answer,
        Bill,
        Brain,
        Call,
        Fault,
        Message,
        Recording,
        Recordings,
        Request,
        echo,
    )
    from agentmesh.emulator.server import Emulator
    from agentmesh.emulator.server import Emulator as emulator
    from agentmesh.testing.cache import CacheLedger, assert_cache
    from agentmesh.testing.stable import assert_stable

_HOME = {
    "CacheLedger": "agentmesh.testing.cache",
    "Emulator": "agentmesh.emulator.server",
    "assert_cache": "agentmesh.testing.cache",
    "assert_stable": "agentmesh.testing.stable",
}

__all__ = [
    "Answer",
    "Bill",
    "Brain",
    "CacheLedger",
    "Call",
    "Emulator",
    "Fault",
    "Message",
    "Recording",
    "Recordings",
    "Request",
    "assert_cache",
    "assert_stable",
    "echo",
    "emulator",
]


def __getattr__(name: str) -> Any:
    # pytest loads this package with every run in which it is installed: the server waits
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "agentmesh.emulator.server" if name == "emulator" else _HOME.get(name)
    found = importlib.import_module(home or "agentmesh.emulator")
    return getattr(found, "Emulator" if name == "emulator" else name)
