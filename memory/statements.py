"""Statements that every turn runs, on the driver's own cursor.

SQLAlchemy makes them; to run one through it costs eight times what SQLite takes for it, and three
times what a trip to PostgreSQL does. Each is compiled once per driver.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Insert, Select, Update
from sqlalchemy.exc import DBAPIError

Values = Mapping[str, Any]


class _Compiled(NamedTuple):
    text: str
    positions: Sequence[str] | None

    def given(self, values: Values) -> Any:
        """Return values as the driver takes them: by position, or by name."""
        return values if self.positions is None else tuple(values[name] for name in self.positions)


class Statement:
    """A select, insert or update whose values are all given by name.

    Args:
        clause: what SQLAlchemy made; its parameters are `bindparam`s.
        columns: what an insert writes.
    """

    def __init__(self, clause: Select[Any] | Insert | Update, columns: Sequence[str] = ()) -> None:
        self._clause = clause.inline() if isinstance(clause, Insert) else clause
        self._columns = list(columns)
        self._compiled: dict[str, _Compiled] = {}
        selected = clause.exported_columns  # of a select, or of a write that returns some
        row: Any = namedtuple  # whose fields are known at run time only
        self._row = row("Row", [column.key for column in selected])

    def all(self, connection: Connection, values: Values) -> list[Any]:
        """Return the rows that are found, with their columns as attributes."""
        return [self._row._make(row) for row in self._run(connection, [values]).fetchall()]

    def first(self, connection: Connection, values: Values) -> Any:
        """Return the first row that is found or was written, or None."""
        rows = self._run(connection, [values]).fetchall()
        return self._row._make(rows[0]) if rows else None

    def run(self, connection: Connection, *rows: Values) -> int:
        """Write once for each of some values, and return how many rows that concerned."""
        return int(self._run(connection, rows).rowcount)

    def _run(self, connection: Connection, rows: Sequence[Values]) -> Any:
        compiled = self._for(connection)
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(compiled.text, compiled.given(rows[0]))
            else:
                cursor.executemany(compiled.text, [compiled.given(row) for row in rows])
        except Exception as error:
            raise _told(connection, cursor, compiled.text, error) from error
        return cursor

    def _for(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        found = self._compiled.get(dialect.driver)
        if found is None:
            made: Any = self._clause.compile(dialect=dialect, column_keys=self._columns or None)
            positions = made.positiontup if made.positional else None
            found = self._compiled[dialect.driver] = _Compiled(str(made), positions)
        return found


def _told(connection: Connection, cursor: Any, text: str, error: Exception) -> Exception:
    """Return a driver's error as SQLAlchemy tells it; a connection that is lost is given up."""
    dialect: Any = connection.dialect
    base = dialect.loaded_dbapi.Error
    if not isinstance(error, base):
        return error
    lost = bool(dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor))
    if lost:
        connection.invalidate(error)
    told: Any = DBAPIError.instance
    made: Exception = told(text, None, error, base, connection_invalidated=lost, dialect=dialect)
    return made
