"""A session's log for readers: its entries, its proof, and any past prompt, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, func, select

from agentmesh.errors import CorruptError
from agentmesh.memory import ledger, sessions
from agentmesh.memory.frozen import load_epoch, readable
from agentmesh.memory.ledger import Call
from agentmesh.memory.render import (
    SHOWN,
    PrefixHash,
    ViewHash,
    own_prompt,
    own_sha,
    parse_marks,
    parse_view,
    prompt_sha,
    render,
)
from agentmesh.memory.sessions import Record
from agentmesh.memory.tables import entries
from agentmesh.memory.twins import twin
from agentmesh.memory.views import View
from agentmesh.prompt import Entry, Prompt

if TYPE_CHECKING:
    from agentmesh.memory.memory import Memory


@dataclass(frozen=True, slots=True)
class Verified:
    """What `Memory.verify` has checked."""

    sessions: int
    entries: int
    calls: int


class History:
    """A session's log, read only: `memory.history("s1").entries()`."""

    def __init__(self, memory: Memory, session: str) -> None:
        self._memory = memory
        self._session = session

    def records(self) -> list[Record]:
        """Return every record, bookkeeping included, oldest first."""
        memory = self._memory
        return memory.database.read(lambda c: sessions.load(c, memory.find(c, self._session).id))

    def entries(self) -> list[Entry]:
        """Return what models were shown, oldest first."""
        return [record.entry for record in self.records() if record.kind in SHOWN]

    def verify(self) -> int:
        """Check the log against its hash chain and return its length."""
        return self._memory.verify(self._session).entries

    def __len__(self) -> int:
        memory = self._memory

        def work(connection: Connection) -> int:
            row = memory.find(connection, self._session)
            query = select(func.count()).where(entries.c.session_id == row.id)
            return int(connection.execute(query).scalar_one())

        return memory.database.read(work)

    arecords = twin(records)
    aentries = twin(entries)
    averify = twin(verify)
    alen = twin(__len__)


def rebuild(connection: Connection, tenant: str, session_id: int, call: Call) -> Prompt:
    """Return the prompt of a past call, from the database alone.

    Raises:
        CorruptError: it is not the prompt that was sent.
    """
    with readable(f"what call {call.id} was shown"):
        own = own_prompt(call.marks, call.tail)
    if own is not None:
        if own_sha(own) != call.prompt_sha:
            raise _changed(call)
        return own
    epoch = load_epoch(connection, tenant, session_id, call.epoch)
    records = sessions.load(connection, session_id, after=epoch.base, until=call.head)
    with readable(f"what call {call.id} was shown"):
        scope, marks = parse_view(call.marks), parse_marks(call.marks)
    shown = scope.entries((r.entry for r in records if r.kind in SHOWN), call.turn)
    epoch = scope.epoch(epoch)
    prompt = render(epoch, shown, tail=call.tail, marks=marks)
    if prompt_sha(epoch, prompt.entries, prompt.tail, prompt.marks) != call.prompt_sha:
        raise _changed(call)
    return prompt


def verify(connection: Connection, tenant: str, row: Row[Any]) -> Verified:
    """Check a session's log and the prompt of each of its calls; one pass over both."""
    records = sessions.load(connection, row.id, until=row.head)  # it may be growing
    sessions.verify(records, row.head, row.chain)
    shown = [record.entry for record in records if record.kind in SHOWN]
    made = [call for call in ledger.load(connection, row.id) if call.head <= row.head]
    for number, calls in groupby(made, key=lambda call: call.epoch):
        prefix = PrefixHash(epoch := load_epoch(connection, tenant, row.id, number))
        visible = [entry for entry in shown if entry.seq > epoch.base]
        views: dict[View, ViewHash] = {}
        upto = 0
        for call, new in _in_step(sorted(calls, key=lambda call: call.head), iter(visible)):
            prefix.extend(new)
            upto += len(new)
            with readable(f"what call {call.id} was shown"):
                scope, marks = parse_view(call.marks), parse_marks(call.marks)
                own = own_prompt(call.marks, call.tail)
            if own is not None:
                sha = own_sha(own)
            elif scope.whole:
                sha = prefix.of(call.tail, marks)
            else:
                if scope not in views:
                    views[scope] = ViewHash(scope, epoch)
                sha = views[scope].of(visible, upto, call.turn, call.tail, marks)
            if sha != call.prompt_sha:
                raise _changed(call)
    return Verified(1, len(records), len(made))


def _in_step(calls: list[Call], rest: Iterator[Entry]) -> Iterator[tuple[Call, list[Entry]]]:
    """Yield each call with the entries that it showed and the call before it did not."""
    upcoming = next(rest, None)
    for call in calls:
        new = []
        while upcoming is not None and upcoming.seq <= call.head:
            new.append(upcoming)
            upcoming = next(rest, None)
        yield call, new


def _changed(call: Call) -> CorruptError:
    return CorruptError(
        f"call {call.id} cannot be rebuilt as it was sent",
        hint="a log entry, an epoch or the call's own row was changed: restore a backup",
    )
