"""A tool's hold on a transaction: over when its call is over, whatever the tool still does.

A tool that hangs cannot be stopped, but it can be kept from the database. From the end of its
loan on, every statement of the thread in which it was left behind is refused, and the one that
runs at that moment is stopped where that is safe, or else waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from agentmesh.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

T = TypeVar("T")

_POLL_S = 0.005
_WRITES = re.compile(
    r"\b(insert|update|delete|replace|savepoint|release|rollback)\b", re.IGNORECASE
)


class _Loan:
    """Whether it is over, and the statement that runs under it."""

    over = False
    running = ""


_held: ContextVar[_Loan | None] = ContextVar("agentmesh_loan", default=None)
"""The loan of the call that runs in this context, and in the threads that inherit it."""


def lend(connection: Connection, work: Callable[[], T]) -> T:
    """Run `work`, in whose context `connection` can be used until it returns or raises.

    Where it raises, the savepoints that were opened within are rolled back.
    """
    loan, outer = _Loan(), connection.get_nested_transaction()
    _watch(connection)
    token = _held.set(loan)
    try:
        return work()
    except BaseException:
        loan.over = True
        _held.reset(token)
        token = _held.set(None)
        _settle(connection, loan)
        _roll_back(connection, outer)
        raise
    finally:
        loan.over = True
        _held.reset(token)


def _settle(connection: Connection, loan: _Loan) -> None:
    """Wait until no statement runs under a loan that is over."""
    driver: Any = connection.connection.driver_connection
    sqlite = connection.dialect.name == "sqlite"
    stop = getattr(driver, "interrupt" if sqlite else "cancel", None)
    while running := loan.running:
        # SQLite answers to an interrupted write by rolling back far more than the savepoint.
        if stop is not None and (not sqlite or not _WRITES.search(running)):
            stop()
        time.sleep(_POLL_S)


def _roll_back(connection: Connection, outer: NestedTransaction | None) -> None:
    while (inner := connection.get_nested_transaction()) not in (outer, None):
        inner.rollback()


def _watch(connection: Connection) -> None:
    from sqlalchemy import event

    for name, listener in (
        ("before_cursor_execute", _before),
        ("after_cursor_execute", _after),
        ("begin", _refuse_late),
        ("rollback", _refuse_late),
        ("commit", _refuse_late),
    ):
        if not event.contains(connection, name, listener):
            event.listen(connection, name, listener)
    if not event.contains(connection.dialect, "handle_error", _after):
        event.listen(connection.dialect, "handle_error", _after)


def _before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    if (loan := _held.get()) is not None:
        loan.running = statement
        if loan.over:
            loan.running = ""
        _refuse_late()


def _after(*_: object) -> None:
    if (loan := _held.get()) is not None:
        loan.running = ""


def _refuse_late(*_: object) -> None:
    if (loan := _held.get()) is not None and loan.over:
        raise InputError(
            "the call that was lent this connection is over", hint="use it within the call"
        )
