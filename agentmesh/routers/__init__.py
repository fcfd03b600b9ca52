"""Routers over time: their versions, what they learn from the ledger, how they are watched.

`agentmesh.routing` decides; this keeps, measures and replaces what decides.
"""

from agentmesh.routers.lessons import Lesson, Lessons, Said, lessons, review, said
from agentmesh.routers.live import LiveRouter
from agentmesh.routers.training import Run, train, watch
from agentmesh.routers.versions import RouterVersion, Versions

__all__ = [
    "Lesson",
    "Lessons",
    "LiveRouter",
    "RouterVersion",
    "Run",
    "Said",
    "Versions",
    "lessons",
    "review",
    "said",
    "train",
    "watch",
]
