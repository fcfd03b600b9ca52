from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from agentmesh.memory import Memory
from agentmesh.memory.cluster import available, postgres

pytest.register_assert_rewrite("agentmesh.memory.conformance")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Give the URL of a PostgreSQL server, one per test process."""
    if why := available():
        pytest.skip(why)
    with postgres(durable=False) as url:
        yield url


def _schema(server: str) -> tuple[str, str]:
    """Make a schema of its own and return its name and URL."""
    name = f"t{uuid.uuid4().hex[:12]}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    mark = "&" if "?" in server else "?"
    return name, f"{server}{mark}options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/memory.db"
        return
    server = request.getfixturevalue("server")
    name, url = _schema(server)
    yield url
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Give the URL of an empty SQLite file."""
    return f"sqlite:///{tmp_path}/memory.db"


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    """Give a memory in an empty database."""
    memory = Memory(url)
    yield memory
    memory.close()


@pytest.fixture
def environment() -> dict[str, str]:
    """Give the environment of a subprocess that runs this interpreter."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
