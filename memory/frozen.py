"""Epochs in the database: stored as they begin, read back only as they were.

Tools and instructions are stored once for all sessions that show them, by their hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from agentmesh import canonical
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.memory.database import insert_once
from agentmesh.memory.epochs import Epoch, parse_tools, tools_text
from agentmesh.memory.tables import calls, epochs, layers
from agentmesh.prompt import Segment


def store_epoch(
    connection: Connection, tenant: str, session_id: int, epoch: Epoch, *, at: float
) -> None:
    """Store an epoch, and the layers of it that no session has stored before."""
    texts = {"tools": tools_text(epoch.tools), "core": epoch.core}
    for name, sha in epoch.shared:
        held = select(layers.c.sha).where(layers.c.tenant == tenant, layers.c.sha == sha)
        if connection.execute(held).first() is None:
            insert_once(connection, layers, tenant=tenant, sha=sha, body=texts[name])
    own = [[part.name, part.text] for part in epoch.segments if part.name != "core"]
    connection.execute(
        insert(epochs).values(
            session_id=session_id,
            number=epoch.number,
            tenant=tenant,
            reason=epoch.reason,
            base=epoch.base,
            shared=canonical.dumps([list(layer) for layer in epoch.shared]),
            frozen=canonical.dumps(own),
            seen=canonical.dumps(epoch.seen),
            at=at,
        )
    )


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn the errors of reading a damaged row into one that says which."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ConfigError) as error:
        raise CorruptError(f"{what} cannot be read", hint="restore a backup") from error


def load_epoch(connection: Connection, tenant: str, session_id: int, number: int) -> Epoch:
    """Return a stored epoch."""
    row = connection.execute(
        select(epochs).where(epochs.c.session_id == session_id, epochs.c.number == number)
    ).first()
    if row is None:
        raise CorruptError(f"epoch {number} is missing", hint="restore a backup")
    with readable(f"epoch {number}"):
        return _epoch(connection, tenant, row)


def _epoch(connection: Connection, tenant: str, row: Row[Any]) -> Epoch:
    shared = dict(canonical.loads(row.shared))
    texts = {
        layer.sha: layer.body
        for layer in connection.execute(
            select(layers).where(layers.c.tenant == tenant, layers.c.sha.in_(shared.values()))
        )
    }
    for name, sha in shared.items():
        if canonical.sha(texts.get(sha, "")) != sha:
            raise CorruptError(
                f"the frozen {name} of epoch {row.number} do not match their hash",
                hint="restore a backup",
            )
    own = tuple(Segment(name, text) for name, text in canonical.loads(row.frozen))
    return Epoch(
        number=row.number,
        reason=row.reason,
        base=row.base,
        tools=parse_tools(texts[shared["tools"]]),
        segments=(Segment("core", texts[shared["core"]]), *own),
        seen=canonical.loads(row.seen),
    )


def load_anchors(connection: Connection, session_id: int, epoch: int) -> dict[str, int]:
    """Return, for each model, the last entry that it was shown in an epoch."""
    rows = connection.execute(
        select(calls.c.model, func.max(calls.c.head))
        .where(calls.c.session_id == session_id, calls.c.epoch == epoch)
        .group_by(calls.c.model)
    )
    return {row[0]: row[1] for row in rows}
