from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update

from agentmesh.errors import StoreError
from agentmesh.memory import Memory
from agentmesh.memory.statements import Statement
from agentmesh.memory.tables import layers

INSERT = Statement(insert(layers), ("tenant", "sha", "body"))
FIND = Statement(select(layers).where(layers.c.sha == bindparam("of")).order_by(layers.c.body))
CHANGE = Statement(
    update(layers).where(layers.c.sha == bindparam("of")).values(body=bindparam("new"))
)


def row(sha: str, body: str = "x") -> dict[str, str]:
    return {"body": body, "sha": sha, "tenant": "t"}


def test_rows_are_written_found_and_counted(memory: Memory) -> None:
    def work(connection: Connection) -> None:
        assert INSERT.run(connection, row("a")) == 1
        INSERT.run(connection, row("b"), row("c", "ü \U0001f600"))

    memory.database.write(work)
    found = memory.database.read(lambda c: FIND.first(c, {"of": "c"}))
    assert (found.tenant, found.sha, found.body) == ("t", "c", "ü \U0001f600")
    assert memory.database.read(lambda c: FIND.first(c, {"of": "d"})) is None
    assert memory.database.write(lambda c: CHANGE.run(c, {"of": "a", "new": "y"})) == 1
    assert memory.database.write(lambda c: CHANGE.run(c, {"of": "d", "new": "y"})) == 0
    assert [r.body for r in memory.database.read(lambda c: FIND.all(c, {"of": "a"}))] == ["y"]


def test_an_error_undoes_the_write_and_is_told_as_any_other(memory: Memory) -> None:
    def twice(connection: Connection) -> None:
        INSERT.run(connection, row("a"))
        INSERT.run(connection, row("a"))

    with pytest.raises(StoreError, match="refused"):
        memory.database.write(twice)
    assert memory.database.read(lambda c: FIND.first(c, {"of": "a"})) is None
    memory.database.write(lambda c: INSERT.run(c, row("a")))


def test_what_is_no_error_of_the_database_stays_what_it_is(file_url: str) -> None:
    memory = Memory(file_url)
    with pytest.raises(KeyError):
        memory.database.read(lambda c: FIND.first(c, {}))
    memory.close()


def test_a_database_without_its_tables_says_so(file_url: str) -> None:
    memory = Memory(file_url)
    with sqlite3.connect(file_url.removeprefix("sqlite:///")) as other:
        other.execute("DROP TABLE layers")
    other.close()
    with pytest.raises(StoreError, match="no such table"):
        memory.database.read(lambda c: FIND.first(c, {"of": "a"}))
    memory.close()
