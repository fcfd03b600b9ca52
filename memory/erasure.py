"""Erasure: what is known of a user, session or tenant leaves every table, and leaves no copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, or_, select, update

from agentmesh import canonical
from agentmesh.memory import tombstones
from agentmesh.memory.buckets import ASIDE
from agentmesh.memory.database import lock
from agentmesh.memory.sessions import alive
from agentmesh.memory.tables import (
    bucket_items,
    buckets,
    calls,
    entries,
    epochs,
    feedback,
    layers,
    model_files,
    models,
    pins,
    sessions,
)

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed.

    `subject` is the hash of the name that was erased, as its tombstone keeps it; `counts` says
    how many rows left each table; `scrubbed` that the file and its log hold no copy of them
    (SQLite; a PostgreSQL server frees the space and overwrites it in its own time). `sha` is the
    SHA-256 of all this as canonical JSON.
    """

    kind: str
    subject: str
    counts: Mapping[str, int]
    at: float
    scrubbed: bool = False
    sha: str = ""

    def signed(self, *, scrubbed: bool) -> Receipt:
        """Return the receipt with its hash."""
        plain = replace(self, scrubbed=scrubbed, sha="")
        body = {key: value for key, value in asdict(plain).items() if key != "sha"}
        return replace(plain, sha=canonical.sha(canonical.dumps(body)))


class Doomed(NamedTuple):
    """Which rows an erasure removes."""

    sessions: ColumnElement[bool]
    buckets: ColumnElement[bool]
    author: str = ""


def erase(
    connection: Connection, kind: tombstones.Kind, tenant: str, name: str, now: float
) -> tuple[Receipt, list[str]]:
    """Remove a tenant, user or session and refuse all later writes to it.

    Returns the receipt and the names of the sessions that are gone.
    """
    lock(connection, f"tombstones {tenant}")
    tombstones.bury(connection, kind, tenant, name, now)
    which = _doomed(kind, tenant, name)
    names = _names(connection, which.sessions)
    for session in names:
        tombstones.bury(connection, "session", tenant, session, now)
    counts = _delete(connection, which, tenant)
    if kind == "tenant":
        counts["models"] = _gone(connection, models, models.c.tenant == tenant)
        counts["model_files"] = _gone(connection, model_files, model_files.c.tenant == tenant)
        counts["pins"] = _gone(connection, pins, pins.c.tenant == tenant)
    receipt = Receipt(kind, tombstones.sha(kind, tenant, name), counts, now)
    return receipt, names


def retain(
    connection: Connection, tenant: str, days: float, now: float
) -> tuple[Receipt, list[str]]:
    """Remove sessions that nobody has used for some days, and superseded versions as old.

    There is no tombstone: a user who comes back begins anew.
    """
    lock(connection, f"tombstones {tenant}")
    before = now - days * DAY_S
    stale = and_(sessions.c.tenant == tenant, sessions.c.updated_at < before)
    running = [
        row.id
        for row in connection.execute(
            select(sessions.c.id, sessions.c.owner).where(
                stale, sessions.c.state == "running", sessions.c.lease_until > now
            )
        )
        if alive(row.owner)
    ]
    stale = and_(stale, sessions.c.id.not_in(running))
    names = _names(connection, stale)
    tasks = select(sessions.c.name).where(stale)
    which = Doomed(
        stale,
        and_(buckets.c.tenant == tenant, buckets.c.kind == "task", buckets.c.owner.in_(tasks)),
    )
    counts = _delete(connection, which, tenant)
    counts["bucket_items"] += _gone(
        connection,
        bucket_items,
        bucket_items.c.tenant == tenant,
        bucket_items.c.superseded_by.is_not(None),
        bucket_items.c.valid_from < before,
    )
    subject = canonical.sha(canonical.dumps(["age", tenant, days]))
    return Receipt("age", subject, counts, now), names


def _doomed(kind: tombstones.Kind, tenant: str, name: str) -> Doomed:
    of_session, of_bucket = sessions.c.tenant == tenant, buckets.c.tenant == tenant
    if kind == "tenant":
        return Doomed(of_session, of_bucket)
    if kind == "session":
        task = and_(buckets.c.kind == "task", buckets.c.owner == name)
        return Doomed(and_(of_session, sessions.c.name == name), and_(of_bucket, task))
    mine = and_(of_session, sessions.c.user == name)
    kinds = "profile", f"profile{ASIDE}"
    profile = and_(buckets.c.kind.in_(kinds), buckets.c.owner == name)
    tasks = and_(buckets.c.kind == "task", buckets.c.owner.in_(select(sessions.c.name).where(mine)))
    return Doomed(mine, and_(of_bucket, or_(profile, tasks)), author=name)


def _delete(connection: Connection, which: Doomed, tenant: str) -> dict[str, int]:
    """Remove rows, children first, and then the shared layers that nothing refers to any more."""
    held = select(buckets.c.id).where(which.buckets)
    ids = select(sessions.c.id).where(which.sessions)
    counts = {"bucket_items": _gone(connection, bucket_items, bucket_items.c.bucket_id.in_(held))}
    counts["buckets"] = _gone(connection, buckets, which.buckets)
    for table in (entries, epochs, calls, feedback):
        counts[table.name] = _gone(connection, table, table.c.session_id.in_(ids))
    counts["sessions"] = _gone(connection, sessions, which.sessions)
    used = {
        sha
        for text in connection.execute(
            select(epochs.c.shared).where(epochs.c.tenant == tenant).distinct()
        ).scalars()
        for _, sha in canonical.loads(text)
    }
    counts["layers"] = _gone(
        connection, layers, layers.c.tenant == tenant, layers.c.sha.not_in(used)
    )
    if which.author:  # in buckets that stay, such as an organisation's
        connection.execute(
            update(bucket_items)
            .where(bucket_items.c.tenant == tenant, bucket_items.c.author == which.author)
            .values(author="")
        )
    return counts


def _names(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    return list(connection.execute(select(sessions.c.name).where(which)).scalars())


def _gone(connection: Connection, table: Table, *where: ColumnElement[bool]) -> int:
    return int(connection.execute(delete(table).where(*where)).rowcount)
