"""What a session sees of its buckets, or what changed there since it last looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, literal_column, or_, select

from agentmesh.memory.items import KINDS, Item, Kind, item_of
from agentmesh.memory.statements import Statement
from agentmesh.memory.tables import bucket_items, buckets


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds in the buckets that a session sees, or what changed since it last looked."""

    items: dict[Kind, tuple[Item, ...]]
    seen: dict[Kind, int]


_NEWER = Statement(
    select(buckets.c.kind, bucket_items)
    .join(bucket_items, bucket_items.c.bucket_id == buckets.c.id)
    .where(
        buckets.c.tenant == bindparam("tenant"),
        bucket_items.c.superseded_by.is_(None),
        or_(
            *(
                and_(
                    buckets.c.kind == literal_column(f"'{kind}'"),
                    buckets.c.owner == bindparam(kind),
                    bucket_items.c.revision > bindparam(f"{kind}_since"),
                )
                for kind in KINDS
            )
        ),
    )
    .order_by(bucket_items.c.key)
)


def facts(
    connection: Connection, tenant: str, owners: dict[Kind, str], since: dict[Kind, int] | None
) -> Facts:
    """Return what holds now (`since` None), or the newest version of all that changed since.

    One query: it costs the same however long the buckets' history is.
    """
    told = since or {}
    values: dict[str, Any] = {"tenant": tenant}
    for kind in KINDS:
        values |= {kind: owners.get(kind, ""), f"{kind}_since": told.get(kind, 0)}
    rows = _NEWER.all(connection, values)
    found: dict[Kind, tuple[Item, ...]] = {}
    seen: dict[Kind, int] = dict(since or {})
    for kind in owners:
        current = [item_of(row) for row in rows if row.kind == kind]
        seen[kind] = max([seen.get(kind, 0), *(item.revision for item in current)])
        found[kind] = tuple(item for item in current if since is not None or not item.removed)
    return Facts(found, seen)
