"""Export: everything that is known of a user, as plain JSON."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, select

from agentmesh import canonical
from agentmesh.memory.buckets import ASIDE
from agentmesh.memory.tables import (
    bucket_items,
    buckets,
    calls,
    entries,
    epochs,
    feedback,
    sessions,
)

FORMAT = "agentmesh-export/1"

_LEFT_OUT = {"tenant", "session_id", "bucket_id", "id", "fence", "owner", "lease_until"}
_JSON = {"value", "body", "frozen", "shared", "seen", "marks", "decision", "planned"}


def export(connection: Connection, tenant: str, user: str, now: float) -> dict[str, Any]:
    """Return a user's profile, and each session with its task, log, epochs, calls and feedback."""
    mine = and_(sessions.c.tenant == tenant, sessions.c.user == user)
    rows = connection.execute(select(sessions).where(mine).order_by(sessions.c.id)).all()
    return {
        "format": FORMAT,
        "tenant": tenant,
        "user": user,
        "exported_at": now,
        "profile": _items(connection, tenant, "profile", user),
        "pending": _items(connection, tenant, f"profile{ASIDE}", user),
        "sessions": [_session(connection, tenant, row) for row in rows],
    }


def _session(connection: Connection, tenant: str, row: Row[Any]) -> dict[str, Any]:
    return {
        **_plain(row),
        "task": _items(connection, tenant, "task", row.name),
        **{
            table.name: _rows(connection, table, table.c.session_id == row.id)
            for table in (entries, epochs, calls, feedback)
        },
    }


def _items(connection: Connection, tenant: str, kind: str, owner: str) -> list[dict[str, Any]]:
    held = select(buckets.c.id).where(
        buckets.c.tenant == tenant, buckets.c.kind == kind, buckets.c.owner == owner
    )
    return _rows(connection, bucket_items, bucket_items.c.bucket_id.in_(held))


def _rows(connection: Connection, table: Table, where: ColumnElement[bool]) -> list[dict[str, Any]]:
    query = select(table).where(where).order_by(*table.primary_key.columns)
    return [_plain(row) for row in connection.execute(query)]


def _plain(row: Row[Any]) -> dict[str, Any]:
    return {
        name: canonical.loads(value) if name in _JSON and value is not None else value
        for name, value in row._mapping.items()
        if name not in _LEFT_OUT
    }
