"""The state machine: admit, recall, route, act, tools, commit.

```
START -> admit -> recall -> route -> act -> commit -> END
           |                 ^ ^      | |
           |                 | +------+ |    a draft failed a check: route again, knowing why
           |                 +- tools <-+    tool calls, after approval where one is needed;
           |                                 again, once a call has asked a person something
           +-> commit -> END                 blocked: spam, off-topic
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.graph.state import CompiledStateGraph

from agentmesh.act import Act
from agentmesh.errors import InputError
from agentmesh.hands import Hands
from agentmesh.journal import ends_turn
from agentmesh.learning import Learner
from agentmesh.memory import Turn
from agentmesh.memory.twins import run
from agentmesh.parts import Parts
from agentmesh.providers.blocks import to_answer
from agentmesh.rolling import Rolling
from agentmesh.route import Route
from agentmesh.routing import Verdict
from agentmesh.state import State


class Nodes:
    """The nodes of one agent's graph. Each opens, continues or closes the turn in the journal."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._act = Act(parts)
        self._route = Route(parts, self._act)
        self._hands = Hands(parts, self._act)
        self._rolling = Rolling(parts, self._act)
        self._learner = Learner(parts, self._act)

    def admit(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Open the turn: refuse what cannot be accepted, block what no model needs to see."""
        session, user, claim = _who(config)
        if state.get("resume"):
            return self._resumed(session, user, claim)
        text, memory = self._words(state), self._parts.memory
        verdict = self._parts.router.admit(text, first=not memory.begun(session))
        return self._admitted(
            state, memory.open_turn(**self._opening(config, text, verdict)), verdict
        )

    async def aadmit(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Open the turn without blocking the event loop."""
        if state.get("resume"):
            return await run(lambda: self.admit(state, config))
        text, memory = self._words(state), self._parts.memory
        first = not await memory.abegun(_who(config)[0])
        verdict = await asyncio.to_thread(self._parts.router.admit, text, first=first)
        turn = await memory.aopen_turn(**self._opening(config, text, verdict))
        return self._admitted(state, turn, verdict)

    def _words(self, state: State) -> str:
        return check_text(_last_words(state["messages"]), self._parts.max_input_chars)

    def _opening(self, config: RunnableConfig, text: str, verdict: Verdict) -> dict[str, Any]:
        session, user, claim = _who(config)
        return {
            "session": session,
            "user": user,
            "agent": self._parts.name,
            "blocks": [{"type": "text", "text": text}],
            "kind": "user" if verdict.allowed else "blocked",
            "opening": self._parts.opening,
            "claim": claim,
        }

    def _admitted(self, state: State, turn: Turn, verdict: Verdict) -> dict[str, Any]:
        update: dict[str, Any] = _begin(turn)
        if len(state["messages"]) > 1:
            said = state["messages"][-1]
            update["messages"] = [RemoveMessage(id=REMOVE_ALL_MESSAGES), said]
        if not verdict.allowed:
            turn.add("verdict", [], verdict=asdict(verdict))
            answer = AIMessage(self._parts.blocked_reply)
            update |= {
                "messages": [*update.get("messages", []), answer],
                "status": f"blocked:{verdict.kind}",
                "decision": {
                    "stage": verdict.stage,
                    "kind": verdict.kind,
                    "reason": verdict.reason,
                    "probabilities": {verdict.kind: verdict.probability},
                },
            }
        return update

    def recall(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Open or continue the epoch."""
        with self._closing(state, config) as turn:
            turn.recall(self._parts.core)
        return {}

    async def arecall(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Open or continue the epoch without blocking the event loop."""
        with self._closing(state, config) as turn:
            await turn.arecall(self._parts.core)
        return {}

    def route(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Pick the tier of the next draft, and say why."""
        with self._closing(state, config) as turn:
            return self._route.run(state, turn)

    def act(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft."""
        with self._closing(state, config) as turn:
            return self._act.run(state, turn, config)

    async def aact(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft without blocking the event loop."""
        with self._closing(state, config) as turn:
            return await self._act.arun(state, turn, config)

    def tools(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Run the draft's calls."""
        with self._closing(state, config) as turn:
            return self._hands.run(state, turn, config)

    async def atools(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Run the draft's calls without blocking the event loop."""
        with self._closing(state, config) as turn:
            return await self._hands.arun(state, turn, config)

    def commit(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """End the turn in the journal: from here on it is finished, whatever happens."""
        with self._closing(state, config) as turn:
            self._wind_up(state, turn, config)
            turn.finish(state["status"], state["step"])
            self._act.seats.ended(turn, state["status"])
        return {}

    async def acommit(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """End the turn without blocking the event loop."""
        with self._closing(state, config) as turn:
            await asyncio.to_thread(self._wind_up, state, turn, config)  # it may ask a model
            await turn.afinish(state["status"], state["step"])
            self._act.seats.ended(turn, state["status"])
        return {}

    def _wind_up(self, state: State, turn: Turn, config: RunnableConfig) -> None:
        if state["status"] == "done":
            self._learner.run(state, turn, config)  # it reads what a compaction replaces
            self._rolling.run(state, turn, config)

    def _resumed(self, session: str, user: str, claim: str) -> dict[str, Any]:
        turn = self._parts.memory.reopen_turn(session=session, user=user, claim=claim)
        if turn is None:
            raise InputError(
                f"session {session!r} has no unfinished turn", hint="send a message with invoke()"
            )
        messages, step = rebuilt(turn)
        remove = RemoveMessage(id=REMOVE_ALL_MESSAGES)
        return {
            **_begin(turn),
            "messages": [remove, *messages],
            "step": step,
            **self._acting(turn),
            "resume": bool(messages) and isinstance(messages[-1], AIMessage),
        }

    def _acting(self, turn: Turn) -> dict[str, Any]:
        """Return the tier of a turn's last step, and why it was: one that took over goes on."""
        rows = self._parts.memory.ledger.calls(session=turn.session, turn=turn.number)
        drafted = [row for row in rows if row.purpose == "act" and row.outcome == "ok"]
        if not drafted or drafted[-1].tier not in {tier.name for tier in self._parts.tiers}:
            return {}
        told = drafted[-1].decision
        kept = ("stage", "reason", "kind", "probabilities")
        decision = {key: told[key] for key in kept if key in told}
        return {"tier": drafted[-1].tier, "decision": decision}

    def _closing(self, state: State, config: RunnableConfig) -> _Closing:
        return _Closing(self._parts, state, _who(config)[2])


class _Closing:
    """The open turn of a node; an error in the node ends the turn as failed and frees its lease."""

    def __init__(self, parts: Parts, state: State, claim: str) -> None:
        memory, session = parts.memory, state["session"]
        turn = memory.live(session, state["fence"])
        if turn is None:  # it waited for a person, perhaps in another process
            turn = memory.reopen_turn(session=session, user=state["user"], claim=claim)
            if turn is None:
                raise InputError(f"the turn of session {session!r} is finished")
            turn.recall(parts.core)
        self._turn = turn

    def __enter__(self) -> Turn:
        return self._turn

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, GraphBubbleUp):
            self._turn.abandon()


def rebuilt(turn: Turn) -> tuple[list[AnyMessage], int]:
    """Return an unfinished turn's messages and step from the journal."""
    messages: list[AnyMessage] = []
    for record in turn.records:
        blocks = record.entry.blocks
        if record.kind == "user":
            messages.append(HumanMessage("\n".join(block["text"] for block in blocks)))
        elif record.kind == "assistant":
            messages.append(to_answer(blocks))
        elif record.kind == "tool":
            messages += [
                ToolMessage(b["text"], tool_call_id=b["id"], name=b["name"]) for b in blocks
            ]
    done = [record.step for record in turn.records if record.kind == "assistant"]
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    pending = last is not None and _pending(last, messages, turn)
    if pending:  # the step's calls are run again: what is known of them is not repeated
        del messages[messages.index(last) + 1 :]  # type: ignore[arg-type]  # it is one of them
    step = 0 if not done else done[-1] + (0 if pending else 1)
    return messages, step


def _pending(draft: AIMessage, messages: Sequence[AnyMessage], turn: Turn) -> bool:
    """Say whether a draft's step is not over: a result is missing, or nothing was to follow it."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    if any(call["id"] not in answered for call in draft.tool_calls):
        return True
    step = max(record.step for record in turn.records if record.kind == "assistant")
    return not draft.tool_calls or ends_turn(turn.records, step)


def build(
    parts: Parts, checkpointer: BaseCheckpointSaver[Any] | None
) -> CompiledStateGraph[Any, Any]:
    """Compile the state machine of an agent."""
    nodes = Nodes(parts)
    graph = StateGraph(State)
    graph.add_node("admit", _both(nodes.admit, nodes.aadmit))
    graph.add_node("recall", _both(nodes.recall, nodes.arecall))
    graph.add_node("route", nodes.route)
    graph.add_node("act", _both(nodes.act, nodes.aact))
    graph.add_node("tools", _both(nodes.tools, nodes.atools))
    graph.add_node("commit", _both(nodes.commit, nodes.acommit))
    graph.add_edge(START, "admit")
    graph.add_conditional_edges("admit", _after_admit, ["recall", "commit"])
    graph.add_conditional_edges("recall", _after_recall, ["route", "tools"])
    graph.add_conditional_edges("route", _after_route, ["act", "commit"])
    graph.add_conditional_edges("act", _after_act, ["route", "tools", "commit"])
    graph.add_conditional_edges("tools", _after_tools, ["route", "tools", "commit"])
    graph.add_edge("commit", END)
    return graph.compile(checkpointer=checkpointer, name=parts.name)


def _both(sync: Callable[..., Any], other: Callable[..., Any]) -> RunnableLambda[Any, Any]:
    return RunnableLambda(sync, afunc=other, name=sync.__name__)


def _after_admit(state: State) -> str:
    return "commit" if state["status"] else "recall"


def _after_recall(state: State) -> str:
    return "tools" if isinstance(state["messages"][-1], AIMessage) else "route"


def _after_route(state: State) -> str:
    return "commit" if state["status"] else "act"


def _after_tools(state: State) -> str:
    if isinstance(state["messages"][-1], AIMessage):
        return "tools"  # a call has asked a person something
    return "commit" if state["status"] else "route"


def _after_act(state: State) -> str:
    if state["failures"]:
        return "route"
    return "commit" if state["status"] else "tools"


def _begin(turn: Turn) -> dict[str, Any]:
    return {
        "session": turn.session,
        "user": turn.user,
        "turn": turn.number,
        "fence": turn.fence,
        "step": 0,
        "tier": "",
        "decision": {},
        "failures": [],
        "status": "",
        "resume": False,
    }


def _who(config: RunnableConfig) -> tuple[str, str, str]:
    """Return session, user and claim from a run's configuration; the thread is the session."""
    given = config.get("configurable", {})
    session = given.get("session") or given.get("thread_id")
    if not session:
        raise InputError(
            "the run names no session", hint="config={'configurable': {'thread_id': 's1'}}"
        )
    return str(session), str(given.get("user") or "anonymous"), str(given.get("claim", ""))


def _last_words(messages: Sequence[AnyMessage]) -> str:
    if not messages or not isinstance(messages[-1], HumanMessage):
        raise InputError(
            "the run has no message of a user", hint="input={'messages': [HumanMessage('...')]}"
        )
    content = messages[-1].content
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, str) else part.get("text") for part in content]
    if any(part is None for part in parts):
        raise InputError("the message holds something that is not text", hint="send text alone")
    return "\n".join(str(part) for part in parts)


def check_text(text: Any, limit: int) -> str:
    """Return a user's message if it can be accepted."""
    if not isinstance(text, str):
        raise InputError(f"a message is text, not {type(text).__name__}", hint="pass a str")
    if not text.strip():
        raise InputError("the message is empty", hint="say something")
    if len(text) > limit:
        raise InputError(
            f"the message has {len(text):,} characters, the limit is {limit:,}",
            hint="shorten it, or raise max_input_chars",
        )
    return text
