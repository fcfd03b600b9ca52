"""The `tools` node: approved calls run once each, through LangGraph's own ToolNode."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from sqlalchemy import Connection

from agentmesh import canonical, pauses
from agentmesh.approvals import Approvals
from agentmesh.errors import InputError
from agentmesh.memory import Turn
from agentmesh.memory.database import within
from agentmesh.memory.sessions import Record
from agentmesh.parts import Parts
from agentmesh.passages import cut_line, handle_of, keep
from agentmesh.quarantine import Quarantine
from agentmesh.state import State
from agentmesh.tools import (
    CallContext,
    Result,
    arun_call,
    arun_once,
    keyed,
    run_call,
    run_once,
    to_message,
)
from agentmesh.tools.removed import removed

if TYPE_CHECKING:
    from agentmesh.act import Act


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
                block = _block(call_id, name, found[0].text, error=found[0].error)
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
        block = _block(call_id, name, result.text, error=result.error)
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


def _block(call_id: str, name: str, text: str, *, error: bool) -> dict[str, Any]:
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


class _Running:
    """A call as it runs: its tool, on whose behalf, and what its model is shown of the result."""

    def __init__(
        self,
        request: ToolCallRequest,
        tool: BaseTool,
        context: CallContext,
        shown: Callable[[str, str, Result], Result],
    ) -> None:
        call = request.tool_call
        self.id, self.name, self.args = str(call["id"]), call["name"], call["args"]
        self.tool, self.context = tool, context
        self._request, self._shown = request, shown

    @property
    def key(self) -> str:
        """The key under which the call has its effect once."""
        return self.context.idempotency_key

    @property
    def given(self) -> tuple[BaseTool, str, dict[str, Any], CallContext]:
        """What a run of the tool takes."""
        return self.tool, self.id, self.args, self.context

    def asking(self, args: dict[str, Any]) -> ToolCallRequest:
        """Return the request with the arguments that the tool takes in the end."""
        return self._request.override(tool_call={**self._request.tool_call, "args": args})

    def shown(self, result: Result) -> Result:
        """Return a result as the model is shown it."""
        return self._shown(self.name, self.key, result)

    def told(self, result: Result) -> ToolMessage:
        """Return the message that answers the call."""
        return to_message(result, self.id, self.name)


class Hands:
    """Runs the calls of an accepted draft."""

    def __init__(self, parts: Parts, act: Act) -> None:
        self._parts = parts
        self._approvals = Approvals(parts)
        self._quarantine = Quarantine(parts, act)

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Run the step's calls and log their results."""
        if pauses.answer(turn, state, config):
            state = {**state, "resume": False}  # the run's answer was for that
        draft, answered = self._approved(state, turn, config)
        journal = TurnJournal(turn, self._parts, state["step"])
        if draft.tool_calls:
            running = self._running(draft, state, turn, journal)

            def wrap(request: ToolCallRequest, execute: Callable[..., Any]) -> ToolMessage:
                one = running(request)
                if journal.waits(one.key):
                    return one.told(WAITS)
                if self._shares(one.name):
                    return one.told(self._shared(one, journal))

                def ran() -> Result:
                    result = run_call(
                        *one.given,
                        call=lambda args: execute(one.asking(args)),
                        passthrough=(GraphBubbleUp,),
                    )
                    return one.shown(result)

                try:
                    result = run_once(one.tool, one.args, one.context, journal, ran)
                except GraphInterrupt as stop:
                    result = journal.pause(one.key, stop)
                return one.told(result)

            node = self._node(wrap_tool_call=wrap)
            with pauses.answering(config, turn.records) as own:
                answered += node.invoke({"messages": [draft]}, own)["messages"]
        journal.close()
        if journal.waiting:
            return {"fence": turn.fence, "resume": False}  # the node runs again, and asks
        return self._done(state, turn, answered)

    async def arun(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Run the step's calls without blocking the event loop."""
        if pauses.answer(turn, state, config):
            state = {**state, "resume": False}  # the run's answer was for that
        draft, answered = self._approved(state, turn, config)
        journal = TurnJournal(turn, self._parts, state["step"])
        if draft.tool_calls:
            running = self._running(draft, state, turn, journal)

            async def wrap(request: ToolCallRequest, execute: Callable[..., Any]) -> ToolMessage:
                one = running(request)
                if journal.waits(one.key):
                    return one.told(WAITS)
                if self._shares(one.name):
                    return one.told(await asyncio.to_thread(self._shared, one, journal))

                async def ran() -> Result:
                    result = await arun_call(
                        *one.given,
                        call=lambda args: execute(one.asking(args)),
                        passthrough=(GraphBubbleUp,),
                    )
                    if self._quarantine.holds(one.name):  # it asks a model
                        return await asyncio.to_thread(one.shown, result)
                    return one.shown(result)

                try:
                    result = await arun_once(one.tool, one.args, one.context, journal, ran)
                except GraphInterrupt as stop:
                    result = journal.pause(one.key, stop)
                return one.told(result)

            node = self._node(awrap_tool_call=wrap)
            with pauses.answering(config, turn.records) as own:
                answered += (await node.ainvoke({"messages": [draft]}, own))["messages"]
        journal.close()
        if journal.waiting:
            return {"fence": turn.fence, "resume": False}  # the node runs again, and asks
        return self._done(state, turn, answered)

    def _shares(self, name: str) -> bool:
        known = name in self._parts.catalogue
        return known and self._parts.toolset.stated(name).transaction

    def _shared(self, one: _Running, journal: TurnJournal) -> Result:
        """Run a call in the transaction that stores its result."""

        def ran(bound: CallContext) -> Result:
            result = run_call(one.tool, one.id, one.args, bound, passthrough=(GraphBubbleUp,))
            return one.shown(result)

        return journal.share(one.context, ran)

    def _running(
        self, draft: AIMessage, state: State, turn: Turn, journal: TurnJournal
    ) -> Callable[[ToolCallRequest], _Running]:
        """Return what makes of ToolNode's request the call that is to run."""
        keys, shown = self._keys(draft, state, journal), self._shown(state, turn, journal)

        def running(request: ToolCallRequest) -> _Running:
            call = request.tool_call
            tool = self._parts.catalogue.get(call["name"]) or removed(call["name"])
            return _Running(request, tool, keys[str(call["id"])], shown)

        return running

    def _look(self, context: CallContext, sees: frozenset[str]) -> Callable[[str], dict[str, Any]]:
        """Return what reads the buckets that a tool was declared to see."""
        memory = self._parts.memory

        def look(bucket: str) -> dict[str, Any]:
            if bucket not in sees:
                raise InputError(
                    f"this tool sees no {bucket!r}", hint=f"declare @tool(sees={{{bucket!r}}})"
                )
            owner = {"profile": context.user, "task": context.session}.get(
                bucket, memory.organisation_of(context.user)
            )
            of = {"profile": memory.profile, "task": memory.task}.get(bucket, memory.org)
            return {item.key: item.value for item in of(owner).items()} if owner else {}

        return look

    def _shown(
        self, state: State, turn: Turn, journal: TurnJournal
    ) -> Callable[[str, str, Result], Result]:
        """Return what makes of a tool's result the one that the model is shown."""

        def shown(name: str, key: str, result: Result) -> Result:
            if not self._quarantine.holds(name):
                return self._named(key, result)
            with journal.alone():  # the reader's call goes into the ledger by the same turn
                return self._quarantine.read(state, turn, name, key, result)

        return shown

    def _named(self, key: str, result: Result) -> Result:
        """Return a result; one that was cut says how its reader gets at the rest."""
        if not result.whole or result.final or not self._parts.recalls:
            return result
        return replace(result, text=f"{result.text}\n{cut_line(handle_of(key), result.whole)}")

    def _node(self, **wrapper: Any) -> ToolNode:
        return ToolNode(list(self._parts.catalogue), handle_tool_errors=False, **wrapper)

    def _keys(self, draft: AIMessage, state: State, journal: TurnJournal) -> dict[str, CallContext]:
        """Return each call's context, with the idempotency key that names it across restarts."""
        context, seen = CallContext(**self._parts.as_context(state)), Counter[str]()
        keys: dict[str, CallContext] = {}
        for call in draft.tool_calls:
            tool = self._parts.catalogue.get(call["name"]) or removed(call["name"])
            same = call["name"] + canonical.dumps(call["args"])
            look = self._look(context, self._parts.toolset.stated(call["name"]).sees)
            bound = keyed(tool, call["args"], replace(context, look=look), nth=seen[same])
            seen[same] += 1
            journal.name(bound.idempotency_key, str(call["id"]), call["name"])
            keys[str(call["id"])] = bound
        return keys

    def _done(self, state: State, turn: Turn, answered: list[ToolMessage]) -> dict[str, Any]:
        update: dict[str, Any] = {
            "messages": answered,
            "step": state["step"] + 1,
            "fence": turn.fence,
            "resume": False,
        }
        if not answered or ends_turn(turn.records, state["step"]):
            update["status"] = "done"
        return update

    def _approved(
        self, state: State, turn: Turn, config: RunnableConfig
    ) -> tuple[AIMessage, list[ToolMessage]]:
        """Return the draft with the calls that may run, and the answers to those that may not."""
        draft = state["messages"][-1]
        if not isinstance(draft, AIMessage):
            raise InputError("there is no draft with calls to run", hint="resume the session")
        decided = self._approvals.decided(draft, turn, state, config)
        answered = {
            block["id"]
            for record in turn.records
            if record.kind == "tool" and record.step == state["step"]
            for block in record.entry.blocks
        }
        calls, answers = [], []
        for call in draft.tool_calls:
            decision = decided.get(str(call["id"]), {"type": "approve"})
            if decision["type"] in ("reject", "respond"):
                text = str(decision.get("message") or "A person refused this call.")
                rejected = decision["type"] == "reject"
                block = _block(str(call["id"]), call["name"], text, error=rejected)
                if call["id"] not in answered:
                    turn.add("tool", [block], state["step"], key=f"refused {call['id']}")
                answers.append(ToolMessage(text, tool_call_id=str(call["id"]), name=call["name"]))
                continue
            args = decision["edited_action"]["args"] if decision["type"] == "edit" else call["args"]
            calls.append({**call, "args": args})
        turn.flush()
        return draft.model_copy(update={"tool_calls": calls}), answers
