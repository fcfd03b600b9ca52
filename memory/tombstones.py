"""Tombstones: what was erased stays erased, whoever writes late.

A tombstone holds a hash, so that the name that was erased is not kept by its own grave.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, delete, select

from agentmesh import canonical
from agentmesh.errors import ErasedError
from agentmesh.memory.database import insert_once, lock
from agentmesh.memory.tables import tombstones

Kind = Literal["tenant", "user", "session"]


def sha(kind: Kind, tenant: str, name: str) -> str:
    """Return the hash that stands for an erased tenant, user or session."""
    return canonical.sha(canonical.dumps([kind, tenant, name]))


def bury(connection: Connection, kind: Kind, tenant: str, name: str, at: float) -> None:
    """Refuse all later writes to a tenant, user or session."""
    insert_once(connection, tombstones, sha=sha(kind, tenant, name), kind=kind, at=at)


def lift(connection: Connection, kind: Kind, tenant: str, name: str) -> bool:
    """Accept writes again; false if there was nothing to lift."""
    where = tombstones.c.sha == sha(kind, tenant, name)
    return connection.execute(delete(tombstones).where(where)).rowcount > 0


def refuse(connection: Connection, tenant: str, *, user: str = "", session: str = "") -> None:
    """Check that nothing of this was erased, before anything is made for it.

    Raises:
        ErasedError: it was.
    """
    lock(connection, f"tombstones {tenant}", shared=True)
    names: list[tuple[Kind, str]] = [("tenant", tenant), ("user", user), ("session", session)]
    graves = {sha(kind, tenant, name): (kind, name) for kind, name in names if name}
    found = connection.execute(
        select(tombstones.c.sha).where(tombstones.c.sha.in_(graves))
    ).scalar()
    if found:
        kind, name = graves[found]
        raise ErasedError(
            f"{kind} {name!r} was erased", hint="use another one, or memory.readmit() it"
        )
