"""What tests of agents need: an emulated vendor that is strict and sends bills."""

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
    "emulator",
]
