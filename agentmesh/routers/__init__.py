"""Routers over time: their versions, what they learn from the ledger, how they are watched.

`agentmesh.routing` decides; this keeps, measures and replaces what decides.
"""

from agentmesh.routers.drafts import Labelled, drafts
from agentmesh.routers.lessons import Lesson, Lessons, Said, lessons, review, said
from agentmesh.routers.live import LiveRouter
from agentmesh.routers.live_verifier import LiveVerifier
from agentmesh.routers.pardons import Pardon, settle, shifted
from agentmesh.routers.replay import Book, Replayed, replay
from agentmesh.routers.status import Status, status
from agentmesh.routers.stored import RouterVersion
from agentmesh.routers.training import Run, train, watch
from agentmesh.routers.verifying import train_verifier
from agentmesh.routers.versions import Verifiers, Versions, beside

__all__ = [
    "Book",
    "Labelled",
    "Lesson",
    "Lessons",
    "LiveRouter",
    "LiveVerifier",
    "Pardon",
    "Replayed",
    "RouterVersion",
    "Run",
    "Said",
    "Status",
    "Verifiers",
    "Versions",
    "beside",
    "drafts",
    "lessons",
    "replay",
    "review",
    "said",
    "settle",
    "shifted",
    "status",
    "train",
    "train_verifier",
    "watch",
]
