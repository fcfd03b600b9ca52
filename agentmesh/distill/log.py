"""Reads traces out of a memory's log: every call rebuilt as it was sent, a few sessions at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from agentmesh import canonical
from agentmesh.distill.traces import Message, Outcome, Trace
from agentmesh.errors import CorruptError
from agentmesh.memory import tables
from agentmesh.memory.epochs import Epoch, parse_tools
from agentmesh.memory.render import SHOWN, PrefixHash, own_prompt, parse_marks, parse_view
from agentmesh.prompt import Entry, Segment, ToolSpec
from agentmesh.toolview import KIND, ToolView

if TYPE_CHECKING:
    from agentmesh.memory import Memory

BATCH = 64
"""Sessions that are held in memory at a time."""

Progress = Callable[[int, int], None]
"""Told how many calls of how many have been read."""


@dataclass
class _Session:
    """One session's rows, as far as calls are rebuilt from them."""

    name: str
    user: str
    epochs: dict[int, Any] = field(default_factory=dict)
    records: list[Any] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    scores: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))


def read_traces(
    memory: Memory, *, progress: Progress | None = None, verify: bool = True
) -> Iterator[Trace]:
    """Yield the accepted calls of all of a tenant's sessions, in the order of the log.

    Memory stays flat: `BATCH` sessions are held at a time.

    Args:
        memory: whose log is read.
        progress: told after each batch.
        verify: compare each rebuilt prompt with the hash recorded when it was sent.

    Raises:
        CorruptError: a prompt is not the one that was sent.
    """
    tenant, database = memory.tenant, memory.database
    total, keys = database.read(lambda c: _outline(c, tenant))
    done = 0
    layers: dict[str, str] = {}
    waiting = iter(keys)
    while batch := list(islice(waiting, BATCH)):
        load = partial(_load, tenant=tenant, ids=batch, layers=layers)
        for session in database.read(load):
            yield from _traces(memory, session, layers, verify)
            done += len(session.calls)
        if progress is not None:
            progress(done, total)


def _outline(connection: Connection, tenant: str) -> tuple[int, list[int]]:
    """Return how many calls there are, and the keys of the sessions."""
    calls, sessions = tables.calls, tables.sessions
    total = select(func.count()).select_from(calls).where(calls.c.tenant == tenant)
    keys = (
        select(sessions.c.id)
        .where(sessions.c.tenant == tenant, sessions.c.state != "erased")
        .order_by(sessions.c.id)
    )
    return int(connection.execute(total).scalar_one()), list(connection.execute(keys).scalars())


def _load(
    connection: Connection, tenant: str, ids: Sequence[int], layers: dict[str, str]
) -> list[_Session]:
    sessions = {
        row.id: _Session(row.name, row.user)
        for row in connection.execute(
            select(tables.sessions.c.id, tables.sessions.c.name, tables.sessions.c.user)
            .where(tables.sessions.c.id.in_(ids))
            .order_by(tables.sessions.c.id)
        )
    }
    for row in _of(connection, tables.epochs, ids, tables.epochs.c.number):
        sessions[row.session_id].epochs[row.number] = row
        for _, sha in canonical.loads(row.shared):
            if sha not in layers:
                layers[sha] = _layer(connection, tenant, sha)
    for row in _of(connection, tables.entries, ids, tables.entries.c.seq):
        sessions[row.session_id].records.append(row)
    for row in _of(connection, tables.calls, ids, tables.calls.c.id):
        sessions[row.session_id].calls.append(row)
    for row in _of(connection, tables.feedback, ids, tables.feedback.c.id):
        sessions[row.session_id].scores[row.turn].append(row)
    return list(sessions.values())


def _of(connection: Connection, table: Any, ids: Sequence[int], order: Any) -> Any:
    return connection.execute(select(table).where(table.c.session_id.in_(ids)).order_by(order))


def _layer(connection: Connection, tenant: str, sha: str) -> str:
    query = select(tables.layers.c.body).where(
        tables.layers.c.tenant == tenant, tables.layers.c.sha == sha
    )
    body = connection.execute(query).scalar_one_or_none()
    if body is None or canonical.sha(body) != sha:
        raise CorruptError(f"the frozen layer {sha[:12]} is missing", hint="restore a backup")
    return str(body)


def _traces(
    memory: Memory, session: _Session, layers: dict[str, str], verify: bool
) -> Iterator[Trace]:
    statuses = {
        r.turn: canonical.loads(r.body).get("status", "")
        for r in session.records
        if r.kind == "end"
    }
    failed = _failed_calls(session.records)
    acted = [call for call in session.calls if call.purpose == "act"]
    steps: dict[int, int] = defaultdict(int)
    refused = set()
    for call in acted:
        steps[call.turn] += call.outcome == "ok"
        if call.outcome != "ok":
            refused.add((call.turn, call.step))
    answers = {(r.turn, r.step): r for r in session.records if r.kind == "assistant"}
    for number, group in groupby(acted, key=lambda call: call.epoch):
        view = _View(session, number, layers, verify)
        for call in group:
            answer = answers.get((call.turn, call.step))
            if call.outcome != "ok" or answer is None or answer.seq <= call.head:
                continue
            message = _answer(answer.body)
            if message is None:
                continue
            prompt, tools = _prompt(memory, session, call, view)
            if view.changed and not _lists(tools, message):
                continue  # the tool came within the epoch: a student is shown it with the next one
            feedback = session.scores.get(call.turn, [])
            scores = [row.score for row in feedback if row.score is not None]
            outcome = Outcome(
                status=statuses.get(call.turn, ""),
                score=sum(scores) / len(scores) if scores else None,
                labels=tuple(row.label for row in feedback if row.label),
                errors=sum(c["id"] in failed for c in message.get("tool_calls") or ()),
                steps=steps[call.turn],
                escalated=(call.turn, call.step) in refused,
            )
            yield Trace(
                id=f"{session.name}:{call.id}",
                conversation=session.name,
                customer=session.user,
                turn=call.turn,
                step=call.step,
                prompt=prompt,
                tools=tools,
                answer=message,
                teacher=call.model,
                tier=call.tier,
                kind=str(canonical.loads(call.decision).get("kind", "")),
                cost=call.cost,
                latency_s=call.latency_s,
                outcome=outcome,
            )


def _lists(tools: Sequence[dict[str, Any]], answer: Message) -> bool:
    """Say whether a list has all the tools that an answer calls."""
    names = {tool["function"]["name"] for tool in tools}
    return all(call["function"]["name"] in names for call in answer.get("tool_calls") or ())


def _prompt(
    memory: Memory, session: _Session, call: Any, view: _View
) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]:
    """Return the messages and tools of a call, as a student would be sent them."""
    if parse_view(call.marks).whole and own_prompt(call.marks, "") is None:
        view.grow(call.head)
        if view.hash and view.hash.of(call.tail, parse_marks(call.marks)) != call.prompt_sha:
            raise CorruptError(
                f"call {call.id} of session {session.name!r} cannot be rebuilt as it was sent",
                hint="a log entry or an epoch was changed",
            )
        return view.messages(call.tail), view.tools
    from agentmesh.distill.serve import chat_messages, chat_tools
    from agentmesh.providers import to_messages, to_tools

    seen = memory.rebuild(session.name, call)  # the call's tier does not see all of the session
    messages = chat_messages(to_messages(seen, "langchain:student"))
    return tuple(messages), tuple(chat_tools(to_tools(seen)))


class _View:
    """An epoch's messages, growing with the log: an entry is converted once for all its calls."""

    def __init__(
        self, session: _Session, number: int, layers: dict[str, str], verify: bool
    ) -> None:
        row = session.epochs.get(number)
        if row is None:
            raise CorruptError(
                f"epoch {number} of session {session.name!r} is missing", hint="restore a backup"
            )
        shared = dict(canonical.loads(row.shared))
        specs = _specs(layers[shared["tools"]])
        core = Segment("core", layers[shared["core"]])
        own = tuple(Segment(name, text) for name, text in canonical.loads(row.frozen))
        epoch = Epoch(number, row.reason, row.base, specs, (core, *own), {})
        self.hash = PrefixHash(epoch) if verify else None
        self.tools = tools_of(specs)
        self._messages: list[Message] = system_of(epoch.segments)
        self._offered = ToolView.of(specs, ())
        self._notices: list[Message] = []
        self._pending = [r for r in session.records if r.kind in SHOWN and r.seq > row.base]
        self._next = 0

    @property
    def changed(self) -> bool:
        """Whether tools came or went within the epoch."""
        return any(record.kind == KIND for record in self._pending)

    def grow(self, head: int) -> None:
        """Show the log up to an entry."""
        while self._next < len(self._pending) and self._pending[self._next].seq <= head:
            r = self._pending[self._next]
            entry = Entry(r.seq, r.turn, r.step, r.kind, r.body, r.tokens)
            if self.hash is not None:
                self.hash.extend([entry])
            if r.kind == KIND:
                change, self._offered = self._offered.after(entry)
                self._notices += [{"role": "user", "content": n} for n in [change.notice] if n]
            if r.kind == "assistant":
                self._messages += self._notices
                self._notices = []
            self._messages.extend(entry_messages(r.kind, r.body))
            self._next += 1

    def messages(self, tail: str) -> tuple[Message, ...]:
        """Return the prompt's messages, the volatile tail and what tools went after it included."""
        volatile: list[Message] = [{"role": "user", "content": tail}] if tail.strip() else []
        return (*self._messages, *volatile, *self._notices)


def system_of(segments: Sequence[Segment]) -> list[Message]:
    """Return the system message of a prompt's segments, as a list of at most one."""
    texts = [segment.text for segment in segments if segment.text.strip()]
    return [{"role": "system", "content": "\n\n".join(texts)}] if texts else []


def entry_messages(kind: str, body: str) -> list[Message]:
    """Return a log entry as chat messages."""
    if kind == "assistant":
        answer = _answer(body)
        return [] if answer is None else [answer]
    messages: list[Message] = []
    blocks = canonical.loads(body)["blocks"]
    for block in blocks:
        if block["type"] == "result":
            result = {"role": "tool", "tool_call_id": block["id"], "content": block["text"]}
            messages.append(result)
    texts = [b["text"] for b in blocks if b["type"] == "text" and b["text"].strip()]
    if texts:
        messages.append({"role": "user", "content": "\n\n".join(texts)})
    return messages


@lru_cache(maxsize=64)
def _specs(text: str) -> tuple[ToolSpec, ...]:
    return parse_tools(text)


@lru_cache(maxsize=64)
def tools_of(specs: tuple[ToolSpec, ...]) -> tuple[dict[str, Any], ...]:
    """Return tools as OpenAI function dicts, sorted by name."""
    return tuple(_tool(spec) for spec in sorted(specs, key=lambda spec: spec.name))


def _tool(spec: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": spec.name}
    if spec.description:
        function["description"] = spec.description
    function["parameters"] = {
        "type": "object",
        "properties": {},
        **canonical.loads(spec.parameters),
    }
    return {"type": "function", "function": function}


@lru_cache(maxsize=256)  # the answer of a call is read again as part of the next one's prompt
def _answer(body: str) -> Message | None:
    """Return an answer as a chat message; what only its own vendor can read is left out."""
    blocks = canonical.loads(body)["blocks"]
    texts = [b["text"] for b in blocks if b["type"] == "text" and b["text"].strip()]
    calls = [
        {
            "id": b["id"],
            "type": "function",
            "function": {"name": b["name"], "arguments": b["arguments"]},
        }
        for b in blocks
        if b["type"] == "call"
    ]
    if not texts and not calls:
        return None
    answer: Message = {"role": "assistant", "content": "\n\n".join(texts) if texts else None}
    if calls:
        answer["tool_calls"] = calls
    return answer


def _failed_calls(records: Sequence[Any]) -> set[str]:
    return {
        block["id"]
        for record in records
        if record.kind == "tool" and '"error":true' in record.body
        for block in canonical.loads(record.body)["blocks"]
        if block.get("error")
    }
