from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from agentmesh.errors import StoreError
from agentmesh.memory import Memory, schema
from agentmesh.memory.conformance import say
from agentmesh.memory.database import Database
from agentmesh.memory.schema import HEAD, SCRIPTS, prepare, revision
from agentmesh.memory.tables import metadata

_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    recreate = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("sessions", recreate=recreate) as table:
        table.add_column(sa.Column("mood", sa.String(8), nullable=False, server_default="calm"))


def downgrade() -> None:
    with op.batch_alter_table("sessions") as table:
        table.drop_column("mood")
"""


def _migrated(url: str) -> Database:
    """Make a database by its migrations alone."""
    database = Database(url)
    with database.alone() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return database


def test_models_are_what_migrations_make(url: str) -> None:
    database = _migrated(url)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert revision(connection) == HEAD
    database.close()


def test_a_migrated_database_equals_a_new_one(tmp_path: Path) -> None:
    texts = []
    for database in (
        _migrated(f"sqlite:///{tmp_path}/a.db"),
        Database(f"sqlite:///{tmp_path}/b.db"),
    ):
        prepare(database)
        query = text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'")
        rows = database.read(lambda c, query=query: c.execute(query).all())
        texts.append({name: " ".join((sql or "").split()) for name, sql in rows})
        database.close()
    assert texts[0] == texts[1]


def test_an_older_database_is_migrated_with_its_data(url: str, tmp_path: Path) -> None:
    memory = Memory(url)
    say(memory)
    memory.close()
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    (scripts / "versions" / "0005_next.py").write_text(_NEXT)
    database = Database(url)
    prepare(database, scripts=scripts, head="0005")
    prepare(database, scripts=scripts, head="0005")
    with database.engine.connect() as connection:
        assert revision(connection) == "0005"
        assert connection.execute(text("SELECT mood FROM sessions")).scalars().all() == ["calm"]
        # Rebuilding a table on SQLite has not deleted what refers to it.
        assert connection.execute(text("SELECT count(*) FROM epochs")).scalar_one() == 1
    database.close()


def test_a_database_from_the_future_is_refused(url: str) -> None:
    memory = Memory(url)
    memory.database.write(
        lambda c: c.execute(text("UPDATE alembic_version SET version_num='9999'"))
    )
    memory.close()
    with pytest.raises(StoreError, match="later than this version") as caught:
        Memory(url)
    assert "upgrade" in caught.value.hint


def test_tables_without_a_version_are_refused(url: str) -> None:
    memory = Memory(url)
    memory.database.write(lambda c: c.execute(text("DROP TABLE alembic_version")))
    with pytest.raises(StoreError, match="without a version"):
        Memory(url)
    memory.close()


def test_a_failed_creation_leaves_nothing(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(file_url)
    monkeypatch.setattr(schema, "text", lambda sql: text(sql.replace("VARCHAR(32)", "(broken")))
    with pytest.raises(StoreError):
        prepare(database)
    assert database.read(lambda c: inspect(c).get_table_names()) == []
    monkeypatch.undo()
    prepare(database)
    assert database.read(revision) == HEAD
    database.close()


_CONNECT = """
import sys
from agentmesh.memory import Memory
memory = Memory(sys.argv[1])
memory.profile("u1").set(f"from{sys.argv[2]}", 1)
assert "alembic" not in sys.modules
"""


def test_eight_processes_connect_first_at_once(url: str, environment: dict[str, str]) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CONNECT, url, str(n)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    assert [process.communicate()[1] for process in processes] == [""] * 8
    memory = Memory(url)
    assert len(memory.profile("u1").items()) == 8
    memory.close()
