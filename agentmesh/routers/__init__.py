"""Routers over time: their versions, what they learn from the ledger, how they are watched.

`agentmesh.routing` decides; this keeps, measures and replaces what decides.
"""

from agentmesh.routers.lessons import Lesson, Lessons, Said, lessons, review, said
from agentmesh.routers.live import LiveRouter
from agentmesh.routers.pardons import Pardon, settle, shifted
from agentmesh.routers.replay import Book, Replayed, replay
from agentmesh.routers.status import Status, status
from agentmesh.routers.training import Run, train, watch
from agentmesh.routers.versions import RouterVersion, Versions

__all__ = [
    "Book",
    "Lesson",
    "Lessons",
    "LiveRouter",
    "Pardon",
    "Replayed",
    "RouterVersion",
    "Run",
    "Said",
    "Status",
    "Versions",
    "lessons",
    "replay",
    "review",
    "said",
    "settle",
    "shifted",
    "status",
    "train",
    "watch",
]
