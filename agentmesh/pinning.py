"""Definitions of tools that come from elsewhere, recorded at their first use in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, delete, select

from agentmesh.memory.database import insert_once
from agentmesh.memory.tables import pins as table
from agentmesh.tools import Catalogue
from agentmesh.tools.pins import FIRST_USE, Pin, Pinned
from agentmesh.tools.toolset import ORIGIN

if TYPE_CHECKING:
    from agentmesh.memory import Memory


class RecordedPins(Pinned):
    """Pins an agent's foreign tools, those of MCP servers, without being asked to.

    A tool is recorded at its first use by the tenant's agent of this name. Once it is no longer
    what it was, each call asks a person, who pins what it has become, and until then models are
    shown it as it was.
    """

    def __init__(self, memory: Memory, agent: str) -> None:
        super().__init__(memory.clock)
        self._database = memory.database
        self._tenant, self._agent = memory.tenant, agent

    def _names(self, tools: Catalogue) -> frozenset[str]:
        return frozenset(item.name for item in tools if ORIGIN in (item.metadata or {}))

    def _first(self, held: Mapping[str, Pin]) -> Collection[str]:
        return self._tools.keys() - held.keys()

    def _read(self) -> Mapping[str, Pin]:
        query = select(table).where(self._own())
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return {
            row.tool: Pin(
                sha=row.sha,
                description=row.description,
                parameters=row.parameters,
                by=row.by,
                at=row.at,
            )
            for row in rows
        }

    def _keep(self, pins: Mapping[str, Pin]) -> None:
        def store(connection: Connection) -> None:
            for name, pin in pins.items():
                if pin["by"] != FIRST_USE:  # of two processes with a first use, one records it
                    connection.execute(delete(table).where(self._own(), table.c.tool == name))
                own = {"tenant": self._tenant, "agent": self._agent, "tool": name}
                insert_once(connection, table, **own, **pin)

        self._database.write(store)

    def _own(self) -> ColumnElement[bool]:
        return (table.c.tenant == self._tenant) & (table.c.agent == self._agent)
