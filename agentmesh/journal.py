"""The journal of a step's tool calls: what was begun, what it had for an effect, what it returned.

Its entries are the log's. A call that has ended is not run again by whoever resumes the turn, and
one that had begun when the process died is reported as unknown.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphInterrupt
from sqlalchemy import Connection

from agentmesh import canonical, pauses
from agentmesh.memory import Turn
from agentmesh.memory.database import within
from agentmesh.memory.sessions import Record
from agentmesh.parts import Parts
from agentmesh.passages import handle_of, keep
from agentmesh.tools import CallContext, Result


class TurnJournal:
    """A turn's log as the journal of its tool calls: intent, effect, result, each durable.

    A call without a side effect is not announced: it can be repeated, so its result is enough.
    """

    def __init__(self, turn: Turn, parts: Parts, step: int) -> None:
        self._turn = turn
        self._step = step
        self._effects = parts.toolset.stated
        self._lock = threading.Lock()
        self._calls: dict[str, tuple[str, str]] = {}
        self._later: dict[str, Result] = {}
        self._known: dict[str, Result] = {}
        self._begun: set[str] = set()
        self.waiting = set(pauses.waiting(turn.records))
        for record in turn.records:
            if record.kind == "intent":
                self._begun.add(canonical.loads(record.body)["key"])
            elif record.kind == pauses.PAUSE:  # the call has stopped by itself: it begins anew
                self._begun.discard(canonical.loads(record.body)["key"])
            elif record.kind == "tool":
                body = canonical.loads(record.body)
                self._known[body["key"]] = _result(body)

    def alone(self) -> AbstractContextManager[bool]:
        """Hold the turn's log against the step's other calls."""
        return self._lock

    def name(self, key: str, call_id: str, tool: str) -> None:
        """Say which of the model's calls a key stands for."""
        self._calls[key] = call_id, tool

    def intent(self, key: str, tool: str, args: str) -> Any:
        """Write that a call begins; return what is known of it from before."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            if key in self._begun:
                return "unknown"
            if self._effects(tool).side_effect != "none":
                self._turn.add("intent", [], self._step, key=key, tool=tool, args=args)
                self._turn.flush()
            self._begun.add(key)
            return "new"

    def result(self, key: str, result: Result) -> None:
        """Write how a call ended, as the entry that the model will read."""
        with self._lock:
            self._known[key] = result
            if self._effects(self._calls[key][1]).side_effect != "none":
                self._write(key, result)
                self._turn.flush()
            else:
                self._later[key] = result

    def pause(self, key: str, stop: GraphInterrupt) -> Result:
        """Write that a call waits for what it has asked a person; return what stands for it."""
        with self._lock:
            self._turn.add(pauses.PAUSE, [], self._step, key=key, **pauses.question(stop))
            self._turn.flush()
            self.waiting.add(key)
        return WAITS

    def waits(self, key: str) -> bool:
        """Say whether a call has asked what nobody has answered yet."""
        return key in self.waiting

    def share(self, context: CallContext, run: Callable[[CallContext], Result]) -> Result:
        """Return the result of a call whose writes are stored with it, in one transaction.

        Nothing announces it: what is not stored has not happened. A failure undoes the tool's
        writes and is stored alone.
        """
        key = context.idempotency_key
        with self._lock:
            if key in self._known:
                return self._known[key]
            found: list[Result] = []
            here = contextvars.copy_context()  # whoever writes may do so in another thread
            here.run(within.set, True)

            def work(connection: Connection) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
                try:
                    with suppress(_Undone), connection.begin_nested():
                        found[:] = [here.run(run, replace(context, shared=connection))]
                        if found[0].error:
                            raise _Undone
                except GraphInterrupt as stop:
                    found[:] = [WAITS]
                    return pauses.PAUSE, [], {"key": key, **pauses.question(stop)}
                call_id, name = self._calls[key]
                block = result_block(call_id, name, found[0].text, error=found[0].error)
                return "tool", [block], {"key": key, **_more(key, found[0])}

            self._turn.together(self._step, work)
            if found[0] is WAITS:
                self.waiting.add(key)
            else:
                self._known[key] = found[0]
                self._keep(key, found[0])
                self._turn.flush()
            return found[0]

    def close(self) -> None:
        """Write the results that could wait, in the order of the calls, not of their ends."""
        for key in self._calls:
            if key in self._later:
                self._write(key, self._later.pop(key))
        self._turn.flush()

    def _write(self, key: str, result: Result) -> None:
        call_id, name = self._calls[key]
        self._keep(key, result)
        block = result_block(call_id, name, result.text, error=result.error)
        self._turn.add("tool", [block], self._step, key=key, **_more(key, result))

    def _keep(self, key: str, result: Result) -> None:
        """Log the whole text of a result that was cut, under the handle that its reader was told."""
        name = self._calls[key][1]
        if result.whole:
            keep(self._turn, self._step, key, name, result.whole, self._effects(name))

    def reconcile(self, key: str) -> Result | None:
        """Return what a person said of an unknown call: nobody has been asked."""
        return None


class _Undone(Exception):
    """A tool has failed: what it wrote is rolled back."""


WAITS = Result("waits for an answer")
"""Stands for the result of a call that has asked a person something."""


def _more(key: str, result: Result) -> dict[str, Any]:
    """Return what the entry of a result says beside its block."""
    more: dict[str, Any] = {"final": True} if result.final else {}
    return {**more, "handle": handle_of(key)} if result.whole else more


def result_block(call_id: str, name: str, text: str, *, error: bool) -> dict[str, Any]:
    """Return the block that answers a call."""
    return {"type": "result", "id": call_id, "name": name, "text": text, "error": error}


def ends_turn(records: list[Record], step: int) -> bool:
    """Say whether a result of this step is the turn's last word."""
    return any(
        record.kind == "tool"
        and record.step == step
        and bool(canonical.loads(record.body).get("final"))
        for record in records
    )


def _result(body: dict[str, Any]) -> Result:
    block = body["blocks"][0]
    return Result(block["text"], block["error"], final=bool(body.get("final")))
