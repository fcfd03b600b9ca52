"""An emulated model vendor: three APIs over HTTP, strict, billed, answered by a brain of yours.

`agentmesh.testing.emulator` starts one. Nothing here stands in for a model's intelligence: the
brain is a recording, a function or an echo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmesh.emulator.bill import Bill
from agentmesh.emulator.brain import Answer, Brain, Call, Fault, Message, Request, echo
from agentmesh.emulator.recording import Recording, Recordings

if TYPE_CHECKING:
    from agentmesh.emulator.server import Emulator

__all__ = [
    "Answer",
    "Bill",
    "Brain",
    "Call",
    "Emulator",
    "Fault",
    "Message",
    "Recording",
    "Recordings",
    "Request",
    "echo",
]


def __getattr__(name: str) -> Any:
    if name == "Emulator":  # Starlette and Uvicorn load only where a server is started
        from agentmesh.emulator.server import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
