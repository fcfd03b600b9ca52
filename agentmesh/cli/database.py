"""How a command opens the database that it was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import InputError

if TYPE_CHECKING:
    from agentmesh.memory import Memory


@contextmanager
def opened(database: str, tenant: str, *, new: bool = False) -> Iterator[Memory]:
    """Open a SQLite file or a database's URL; a `new` file is made only where that is meant."""
    from agentmesh.memory import Memory

    if "://" not in database:
        if not new and not Path(database).is_file():
            raise InputError(
                f"there is no database {database!r}", hint="give a SQLite file or a database's URL"
            )
        database = f"sqlite:///{database}"
    memory = Memory(database, tenant=tenant)
    try:
        yield memory
    finally:
        memory.close()
