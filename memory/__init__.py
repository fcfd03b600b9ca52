"""Bucketed memory: Profile, Task and History in SQLAlchemy, rendered into one byte-stable prefix."""

from typing import TYPE_CHECKING, Any

from agentmesh.memory.buckets import Bucket
from agentmesh.memory.erasure import Receipt
from agentmesh.memory.history import History, Verified
from agentmesh.memory.items import Item
from agentmesh.memory.ledger import Call, Ledger
from agentmesh.memory.memory import Memory
from agentmesh.memory.promotion import Claim, Promotion
from agentmesh.memory.turns import Core, Turn
from agentmesh.memory.views import View

if TYPE_CHECKING:
    from agentmesh.memory.store import BucketStore

__all__ = [
    "Bucket",
    "BucketStore",
    "Call",
    "Claim",
    "Core",
    "History",
    "Item",
    "Ledger",
    "Memory",
    "Promotion",
    "Receipt",
    "Turn",
    "Verified",
    "View",
]


def __getattr__(name: str) -> Any:
    """Load what needs LangGraph when it is first asked for."""
    if name == "BucketStore":
        from agentmesh.memory.store import BucketStore

        return BucketStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
