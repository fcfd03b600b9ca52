"""The `tools` node: approved calls run once each, through LangGraph's own ToolNode."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest

from agentmesh import canonical, pauses
from agentmesh.approvals import Approvals
from agentmesh.errors import InputError
from agentmesh.journal import WAITS, TurnJournal, ends_turn, result_block
from agentmesh.memory import Turn
from agentmesh.parts import Parts
from agentmesh.passages import cut_line, handle_of
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
        draft, answered, journal = self._begin(state, turn, config)
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
        return self._done(state, turn, answered, journal)

    async def arun(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Run the step's calls without blocking the event loop."""
        draft, answered, journal = self._begin(state, turn, config)
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
        return self._done(state, turn, answered, journal)

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

    def _begin(
        self, state: State, turn: Turn, config: RunnableConfig
    ) -> tuple[AIMessage, list[ToolMessage], TurnJournal]:
        """Return the calls that are to run, the answers to the others, and the step's journal."""
        if pauses.answer(turn, state, config):
            state = {**state, "resume": False}  # the run's answer was for that
        draft, answered = self._approved(state, turn, config)
        return draft, answered, TurnJournal(turn, self._parts, state["step"])

    def _done(
        self, state: State, turn: Turn, answered: list[ToolMessage], journal: TurnJournal
    ) -> dict[str, Any]:
        journal.close()
        if journal.waiting:
            return {"fence": turn.fence, "resume": False}  # the node runs again, and asks
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
                block = result_block(str(call["id"]), call["name"], text, error=rejected)
                if call["id"] not in answered:
                    turn.add("tool", [block], state["step"], key=f"refused {call['id']}")
                answers.append(ToolMessage(text, tool_call_id=str(call["id"]), name=call["name"]))
                continue
            args = decision["edited_action"]["args"] if decision["type"] == "edit" else call["args"]
            calls.append({**call, "args": args})
        turn.flush()
        return draft.model_copy(update={"tool_calls": calls}), answers
