"""How commands speak: one console for people, one line of JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


WIDTH = 140
"""Columns of a table that is not shown on a terminal."""


def console() -> Console:
    """Return the console for people; a file gets lines that are wide enough for a table."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, emoji=False)  # a session may be named a:one:1


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def table(title: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left", no_wrap=bool(index))
    return made


def dollars(micro: int | None) -> str:
    """Return micro-dollars as people read them; an unknown price is never zero."""
    return "$?" if micro is None else f"${micro / 1_000_000:,.4f}"


class Show(Protocol):
    """Sets a progress bar: how many are done, of how many, at what."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Move the bar."""


@contextmanager
def progress(what: str, total: int, *, quiet: bool) -> Iterator[Show]:
    """Show a progress bar on the terminal's error stream; yields what moves it."""
    if quiet or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total or None)

        def show(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield show


def _silent(done: int, total: int | None = None, what: str | None = None) -> None:
    """Move nothing."""
