"""The versions of a tenant's routers, and those of its verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from agentmesh import canonical
from agentmesh.routers.stored import NAME, RouterVersion, Stored

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Router, Verifier

VERIFIER = "verifier"


def beside(name: str) -> str:
    """Return the name of the verifier that is learned and used beside a router."""
    return VERIFIER if name == NAME else f"{name}.{VERIFIER}"


class Versions(Stored["Router"]):
    """The versions of one router of a tenant.

    >>> from agentmesh.memory import Memory
    >>> Versions(Memory("sqlite://")).all()
    []
    """

    kind = "router"
    rival = "a random choice at the same cost"
    without = "the shipped router"

    def __init__(self, memory: Memory, name: str = NAME) -> None:
        super().__init__(memory, name)

    def load(self, version: int) -> Router:
        """Return the router of a version; its contract is void where that was noted."""
        router = super().load(version)
        if self.get(version).void and router.passing is not None:
            return router.changed(passing=router.passing.voided())
        return router

    def void(self, version: int, *, by: str, why: str) -> RouterVersion:
        """Note that a version's contract no longer holds: it abstains upward from now on."""

        def work(c: Connection) -> None:
            row = self._row(c, version)
            if not canonical.loads(row.facts).get("void"):
                self._move(c, row, row.state, by, f"contract void: {why}", void=why)

        self.get(version)
        self._database.write(work)
        return self.get(version)

    def _read(self, path: Path) -> Router:
        from agentmesh.routing import Router

        return Router.load(path)


class Verifiers(Stored["Verifier"]):
    """The versions of one verifier of a tenant."""

    kind = "verifier"
    rival = "the base rate of wrong drafts, or the version before it"
    without = "no verifier"

    def __init__(self, memory: Memory, name: str = VERIFIER) -> None:
        super().__init__(memory, name)

    def _read(self, path: Path) -> Verifier:
        from agentmesh.routing import Verifier

        return Verifier.load(path)
