"""Bucketed memory: Profile, Task and History in SQLAlchemy, rendered into one byte-stable prefix."""

from agentmesh.memory.buckets import Bucket, Item
from agentmesh.memory.history import History, Verified
from agentmesh.memory.ledger import Call, Ledger
from agentmesh.memory.memory import Memory
from agentmesh.memory.turns import Core, Turn
from agentmesh.memory.views import View

__all__ = [
    "Bucket",
    "Call",
    "Core",
    "History",
    "Item",
    "Ledger",
    "Memory",
    "Turn",
    "Verified",
    "View",
]
