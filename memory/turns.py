"""A turn: the only way to append to a session's log."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import Connection

from agentmesh import canonical
from agentmesh.economy.planner import plan
from agentmesh.economy.semantics import semantics
from agentmesh.economy.tokens import count
from agentmesh.errors import ConfigError, CorruptError, InputError, StoreError
from agentmesh.memory import ledger, sessions
from agentmesh.memory.epochs import (
    Epoch,
    bucket_segments,
    digest_segment,
    note_text,
    shared_layers,
    tools_text,
)
from agentmesh.memory.facts import facts
from agentmesh.memory.frozen import store_epoch
from agentmesh.memory.items import Kind
from agentmesh.memory.ledger import Call
from agentmesh.memory.render import marks_text, prompt_sha, render
from agentmesh.memory.rhythm import remember
from agentmesh.memory.sessions import Record, View
from agentmesh.memory.twins import twin
from agentmesh.memory.views import View as Scope
from agentmesh.prompt import Entry, Marks, Prompt, Segment, ToolSpec
from agentmesh.stable import drift, stable_text
from agentmesh.toolview import KIND, ToolView, size

if TYPE_CHECKING:
    from agentmesh.memory.memory import Memory

T = TypeVar("T")

_LOG = logging.getLogger("agentmesh")

CUT_SHORT = "Not completed: the turn was interrupted, and whether the call took effect is unknown."
"""What a model reads as the result of a call that was cut short."""

State = Literal["running", "waiting", "idle"]
Reason = Literal["first", "deploy", "request", "compaction", "cold"]


@dataclass(frozen=True)
class Core:
    """What an agent shows to every user: its tools and its instructions."""

    tools: tuple[ToolSpec, ...]
    text: str

    def __post_init__(self) -> None:
        stable_text("instructions", self.text)
        for tool in self.tools:
            stable_text(f"tool {tool.name}", f"{tool.description}\n{tool.parameters}")
        whole = self.text + tools_text(self.tools)
        if canonical.clean(whole) != whole:
            raise ConfigError(
                "the instructions or tools hold characters that are not text",
                hint="remove NUL characters and lone surrogates",
            )

    @cached_property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """Name and hash of each layer."""
        return shared_layers(self.tools, self.text)


class Turn:
    """An open turn of a session, holding its lease.

    What is added is visible at once in this turn's prompts and durable after `flush`. Whoever
    took the lease over in the meantime makes `flush` fail, and nothing of it is written.
    """

    def __init__(
        self,
        memory: Memory,
        view: View,
        *,
        session: str,
        user: str,
        agent: str,
        organisation: str,
        number: int,
        fence: int,
    ) -> None:
        self.session = session
        self.user = user
        self.organisation = organisation
        self.agent = agent
        self.number = number
        self.fence = fence
        self.claim = ""
        self.view = view
        self._memory = memory
        self._head = view.head
        self._records: list[Record] = []
        self._calls: list[Call] = []
        self._seen: dict[Scope, tuple[Epoch, Epoch]] = {}

    @property
    def epoch(self) -> Epoch:
        """The epoch that the turn renders; `recall` opens it."""
        if self.view.epoch is None:
            raise CorruptError(f"session {self.session!r} has no epoch", hint="call recall() first")
        return self.view.epoch

    @property
    def records(self) -> list[Record]:
        """This turn's records so far, those not yet flushed included."""
        return self._of_turn(self.number)

    def add(
        self,
        kind: str,
        blocks: Sequence[dict[str, Any]],
        step: int = 0,
        *,
        turn: int | None = None,
        **more: Any,
    ) -> Record:
        """Append an entry (see `agentmesh.prompt.Entry` for blocks); durable after `flush`."""
        record = self._next(kind, blocks, step, turn or self.number, more)
        self.view.grow(record)
        self._records.append(record)
        return record

    def _next(
        self, kind: str, blocks: Sequence[dict[str, Any]], step: int, turn: int, more: Any
    ) -> Record:
        """Return the record that would follow the log as it is."""
        _check(kind, blocks)
        body = canonical.clean(canonical.dumps({"blocks": list(blocks), **more}))
        seq = self.view.head + 1
        return Record(
            seq=seq,
            turn=turn,
            step=step,
            kind=kind,
            body=body,
            chain=sessions.link(self.view.chain, seq, turn, step, kind, body),
            tokens=sum(count(_text(block)) for block in blocks),
            at=self._memory.clock(),
        )

    def record(self, call: Call) -> None:
        """Note a model call in the ledger; durable after `flush`."""
        self._calls.append(call)
        if call.usage.input and call.head:
            self.view.anchors[call.model] = call.head
            remember(self.view.times, call.model, call.started_at)
            self._memory.rhythm.note(self.epoch.shared, call.model, call.started_at)

    def recall(self, core: Core) -> Epoch:
        """Open the session's first epoch, continue its current one, or begin one on a deploy.

        Other instructions hold at once. Other tools alone do not move what can still be read from
        a cache: the log says what has changed, and the next epoch's list has it.
        """
        epoch = self.view.epoch
        if epoch is None:
            self.begin_epoch(core, "first")
        elif epoch.shared != core.layers and (epoch.core != core.text or not self._warm()):
            _warn_of_drift(epoch, core)
            self.begin_epoch(core, "deploy")
        self._retool(core)
        memory = self._memory
        if memory.rhythm.stale(core.layers, now := memory.clock()):
            memory.database.read(lambda c: memory.rhythm.look(c, core.layers, now))
        return self.epoch

    def _retool(self, core: Core) -> None:
        """Append what makes of the tools that the log has shown so far those that there are.

        A prompt without any tool takes none in its middle: they wait for the next epoch.
        """
        listed = self.epoch.tools
        view = ToolView.of(listed, self.view.shown)
        change = view.towards(core.tools)
        if listed and any(change):
            if any(spec.name in view.offered for spec in change.added):
                _warn_of_drift(self.epoch, core)
            self.add(KIND, [change.block()])

    def _warm(self) -> bool:
        """Say whether any model may still have this session's prompt cached."""
        now = self._memory.clock()
        return any(
            bool(times) and now - times[-1] < semantics(model).ttl_s
            for model, times in self.view.times.items()
        )

    def begin_epoch(
        self, core: Core, reason: Reason, *, base: int | None = None, digest: str | None = None
    ) -> Epoch:
        """Freeze tools, instructions and buckets as they are now; all earlier notes are folded.

        A compaction gives the `base` after which the log is still shown word for word, and the
        `digest` of what stands before it; otherwise both stay what they are.
        """
        old = self.view.epoch
        number = (old.number if old else 0) + 1
        base = base if base is not None else (old.base if old else 0)
        account = digest_segment(digest) if digest is not None else (old.digest if old else ())
        owners = self._owners()
        epoch = self._write(lambda c: self._freeze(c, core, reason, number, base, owners, account))
        self.settle()
        self.view.enter(epoch)
        return epoch

    def refresh(self, step: int = 0) -> None:
        """Show edits of the buckets since the last look, as a note at the end of the log."""
        self._memory.database.read(lambda c: self.catch_up(c, step))

    def catch_up(self, connection: Connection, step: int = 0) -> None:
        """Do what `refresh` does, on a connection that is open already."""
        if self.view.epoch is None:
            return  # the first epoch will fold them in
        seen = self.view.seen
        changed = facts(connection, self._memory.tenant, self._owners(), seen)
        note = note_text(changed)
        if note:
            self.add("note", [{"type": "text", "text": note}], step, seen=changed.seen)

    def frozen(self, scope: Scope | None = None) -> Epoch:
        """Return the epoch as a view of it shows it."""
        if scope is None or not scope.hidden:
            return self.epoch
        held = self._seen.get(scope)
        if held is None or held[0] is not self.epoch:
            held = self._seen[scope] = self.epoch, scope.epoch(self.epoch)
        return held[1]

    def prompt(
        self, model: str, *, tail: str = "", cache: bool = True, scope: Scope | None = None
    ) -> Prompt:
        """Return the prompt of the turn so far for a model, its breakpoints placed.

        How long each part is to be cached follows from the pauses that this session, and the
        users of the shared layers, have shown. `scope` is what the model may see; everything, if
        it is left out.
        """
        view, epoch = self.view, self.frozen(scope)
        shown: Sequence[Entry] = view.shown
        if scope is not None and not scope.whole:
            shown = scope.entries(shown, self.number)
        marks = self._marks(model, epoch, shown) if cache else None
        key = canonical.sha("".join(sha for _, sha in epoch.shared))[:32]
        return render(epoch, shown, tail=canonical.clean(tail), marks=marks, key=key)

    def _marks(self, model: str, epoch: Epoch, shown: Sequence[Entry]) -> Marks:
        memory, view = self._memory, self.view
        gaps = memory.rhythm.gaps(epoch.shared, model, view.times, memory.clock())
        anchor = view.anchors.get(model)
        return plan(epoch.tokens, shown, semantics(model), anchor=anchor, gaps=gaps).marks

    def sha(self, prompt: Prompt, scope: Scope | None = None) -> str:
        """Return the SHA-256 of a prompt that this turn made; quick before more is added."""
        if scope is not None and not scope.whole:
            return prompt_sha(self.frozen(scope), prompt.entries, prompt.tail, prompt.marks)
        prefix = self.view.prefix
        if prefix is not None and prompt.segments == self.epoch.segments:
            prefix.extend(prompt.entries)
            if prefix.head == (prompt.entries[-1].seq if prompt.entries else 0):
                return prefix.of(prompt.tail, prompt.marks)
        return prompt_sha(self.epoch, prompt.entries, prompt.tail, prompt.marks)

    def flush(self, state: State = "running") -> None:
        """Write all that was added, in one transaction; all of it or nothing."""
        release = {} if state == "running" else {"lease_until": 0.0}
        self._write(lambda c: self.store(c, changes={"state": state, **release}))
        self.settle()
        if state != "running":
            self._memory.release(self)

    def store(
        self, connection: Connection, *, changes: dict[str, Any], fence: int | None = None
    ) -> None:
        """Write what was added since the last `settle`; `fence` is the row's, if not this turn's."""
        memory = self._memory
        sessions.append(
            connection,
            session_id=self.view.id,
            tenant=memory.tenant,
            fence=self.fence if fence is None else fence,
            head=self._head,
            records=self._records,
            now=memory.clock(),
            changes=changes,
        )
        if self._calls:
            ledger.store(connection, memory.tenant, self.view.id, self._calls)

    def together(
        self,
        step: int,
        work: Callable[[Connection], tuple[str, list[dict[str, Any]], dict[str, Any]]],
    ) -> Record:
        """Run `work` and append the entry that it returns, in one transaction: both or neither.

        It returns kind, blocks and more fields of the entry. What was added before is written
        first. `work` may run again after it was rolled back.
        """
        self.flush()

        def both(connection: Connection) -> Record:
            kind, blocks, more = work(connection)
            record = self._next(kind, blocks, step, self.number, more)
            self._records = [record]
            self.store(connection, changes={"state": "running"})
            return record

        record = self._write(both)
        self.view.grow(record)
        self.settle()
        return record

    def settle(self) -> None:
        """Note that all that was added is stored."""
        self._records, self._calls, self._head = [], [], self.view.head

    def finish(self, status: str = "done", step: int = 0) -> None:
        """Say that the turn is over: from here on nothing can be added to it."""
        self.add("end", [], step, status=status)
        self.flush("idle")

    def abandon(self) -> None:
        """End the turn as failed and free its lease; quietly, if it is no longer this one's."""
        memory = self._memory
        if memory.live(self.session, self.fence) is self:
            with suppress(StoreError):
                self.finish("failed")

    def wait(self) -> None:
        """Give the lease back while a person decides; the turn stays unfinished."""
        self.flush("waiting")

    def close_unfinished(self) -> None:
        """End the turn before this one, which was cut short: calls without a result get one."""
        last = self._of_turn(self.number - 1)
        answered = {b["id"] for r in last if r.kind == "tool" for b in r.entry.blocks}
        for record in [record for record in last if record.kind == "assistant"]:
            for block in record.entry.blocks:
                if block["type"] == "call" and block["id"] not in answered:
                    result = {
                        "type": "result",
                        "id": block["id"],
                        "name": block["name"],
                        "text": CUT_SHORT,
                        "error": True,
                    }
                    self.add("tool", [result], record.step, turn=record.turn)
        if last and last[-1].kind != "end":
            self.add("end", [], last[-1].step, turn=self.number - 1, status="interrupted")

    def _of_turn(self, number: int) -> list[Record]:
        """Return a late turn's records, found from the end: the log before them is not read."""
        found: list[Record] = []
        for record in reversed(self.view.records):
            if record.turn == number:
                found.append(record)
            elif record.turn < number:
                break
        return found[::-1]

    def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._memory.database.write(work)
        except BaseException:
            self._memory.release(self, intact=False)
            raise

    def _owners(self) -> dict[Kind, str]:
        owners: dict[Kind, str] = {"profile": self.user, "task": self.session}
        return {"org": self.organisation, **owners} if self.organisation else owners

    def _freeze(
        self,
        connection: Connection,
        core: Core,
        reason: Reason,
        number: int,
        base: int,
        owners: dict[Kind, str],
        account: tuple[Segment, ...],
    ) -> Epoch:
        memory = self._memory
        known = facts(connection, memory.tenant, owners, None)
        segments = (Segment("core", core.text), *bucket_segments(known), *account)
        epoch = Epoch(number, reason, base, core.tools, segments, known.seen)
        self.store(connection, changes={"epoch": number})
        store_epoch(connection, memory.tenant, self.view.id, epoch, at=memory.clock())
        return epoch

    arecall = twin(recall)
    abegin_epoch = twin(begin_epoch)
    arefresh = twin(refresh)
    aflush = twin(flush)
    atogether = twin(together)
    afinish = twin(finish)
    aabandon = twin(abandon)
    await_ = twin(wait)


def _warn_of_drift(epoch: Epoch, core: Core) -> None:
    """Tell of instructions or tools that change from process to process without an edit."""
    tools = tools_text(epoch.tools), tools_text(core.tools)
    for segment, pair in (("instructions", (epoch.core, core.text)), ("tools", tools)):
        if found := drift(*pair):
            _LOG.warning(
                "the %s are written anew in each process and nothing of them stays cached: %s",
                segment,
                found,
            )


def marks_of(prompt: Prompt) -> str:
    """Return a prompt's marks as the ledger keeps them."""
    return marks_text(prompt.marks)


_FIELDS = {
    "text": ("text",),
    "call": ("id", "name", "arguments"),
    "result": ("id", "name", "text", "error"),
    "opaque": ("model", "data"),
    KIND: ("added", "removed", "text"),
}
_KIND = re.compile(r"[a-z]{1,12}")


def _check(kind: str, blocks: Sequence[dict[str, Any]]) -> None:
    """Refuse what could not be read back as an entry, before anything of it is kept."""
    if not _KIND.fullmatch(kind):
        raise InputError(f"{kind!r} is not a kind of entry", hint="1 to 12 small letters")
    for block in blocks:
        fields = _FIELDS.get(block.get("type", "")) if isinstance(block, dict) else None
        if fields is None or any(field not in block for field in fields):
            raise InputError(
                f"{block!r:.80} is not a block", hint=f"a dict whose type is {', '.join(_FIELDS)}"
            )


def _text(block: dict[str, Any]) -> str:
    """Return what a block adds to a prompt, for counting."""
    if block["type"] == "call":
        return f"{block['name']}{block['arguments']}"
    if block["type"] == "opaque":
        return canonical.dumps(block["data"])
    if block["type"] == KIND:
        return size(block)
    return str(block["text"])
