"""The database's schema: made, checked and migrated on connect, by one process at a time."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from agentmesh.errors import StoreError
from agentmesh.memory.database import Database, lock
from agentmesh.memory.tables import metadata

HEAD = "0004"
"""The revision that `tables` describes."""

SCRIPTS = Path(__file__).parent / "migrations"


def prepare(database: Database, *, scripts: Path = SCRIPTS, head: str = HEAD) -> None:
    """Bring a database to the revision `head`: create it, migrate it, or find it current.

    Alembic is loaded only where there is something to migrate.

    Raises:
        StoreError: it belongs to a later version of AgentMesh, or to something else.
    """
    if database.read(revision) == head:
        return
    if database.write(lambda connection: _create(connection, head)):
        return
    with database.alone() as connection:
        lock(connection, "agentmesh schema")
        _migrate(connection, scripts, head)


def revision(connection: Connection) -> str | None:
    """Return the revision that a database is at; None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def _create(connection: Connection, head: str) -> bool:
    """Make all tables in an empty database; false if there is an older one to migrate."""
    lock(connection, "agentmesh schema")
    current = revision(connection)
    if current is not None:
        return current == head
    taken = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if taken:
        raise StoreError(
            f"the database has tables of ours without a version: {', '.join(taken)}",
            hint="use another database, or restore a backup",
        )
    metadata.create_all(connection)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head})
    return True


def _migrate(connection: Connection, scripts: Path, head: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    current = revision(connection)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current not in known:
        raise StoreError(
            f"the database is at revision {current!r}, later than this version of AgentMesh knows",
            hint="pip install --upgrade agentmesh-langgraph",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, head)
