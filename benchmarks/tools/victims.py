"""What is killed: one turn with side effects, in a process of its own; ours, and LangGraph's.

The world outside is a file of its own: a gateway that charges, and a mail server. It counts
whatever reaches it and refuses nothing, so that a repetition shows.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from typing import Any

import anthropic
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from sqlalchemy import text

from agentmesh import Agent, Tier
from agentmesh.errors import InputError
from agentmesh.graph import build  # noqa: F401  # loaded before a victim is forked
from agentmesh.memory import Memory
from agentmesh.providers import connect
from agentmesh.routing import Router
from agentmesh.testing import Answer, Request
from agentmesh.tools import context, tool

USER = "u1"
ASK = "Settle both of my orders, please."
MODEL = "anthropic:claude-opus-5-5"
POLICY = "You are the desk of a shop."
STAGES: tuple[tuple[tuple[str, dict[str, str]], ...], ...] = (
    (("look", {"order": "A"}), ("charge", {"order": "A"}), ("book", {"order": "A"})),
    (("mail", {"order": "A"}),),
    (("charge", {"order": "B"}), ("book", {"order": "B"})),
)
EFFECTS = {("charge", "A"), ("charge", "B"), ("book", "A"), ("book", "B"), ("mail", "A")}
"""What the world must have seen of a turn, each once."""

NETWORK_S = 0.008
"""How long the way to the outside takes, there and back again."""


# All victims are forked from a process that has imported this: what is slow to load is loaded once.
Router.auto().admit(ASK, first=True)
anthropic.Anthropic(api_key="none").messages  # noqa: B018  # its types are loaded when asked for


def brain(request: Request) -> Answer:
    """Ask for the calls of one stage after the other, then say that it is done."""
    said = 0
    for message in reversed(request.messages):
        if message.role == "user":
            break
        said += message.role == "assistant"
    return Answer("Done.") if said >= len(STAGES) else Answer("", list(STAGES[said]))


def outside(path: str, session: str, kind: str, order: str, key: str = "") -> None:
    """Have an effect outside: a row that nothing takes back."""
    time.sleep(NETWORK_S)
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as world:
        world.execute("insert into effects values (?, ?, ?, ?)", (session, kind, order, key))
    time.sleep(NETWORK_S)


def _seen(path: str, key: str) -> str | None:
    with closing(sqlite3.connect(path, timeout=60)) as world:
        found = world.execute("select kind from effects where key = ?", (key,)).fetchone()
    return f"{found[0]} done" if found else None


def ours(pipe: Pipe, url: str, database: str, world: str, session: str) -> None:
    """Run or resume a session's turn: a gateway that can be asked, a table, a mail server."""

    @tool
    def look(order: str) -> str:
        """Look at an order."""
        return f"order {order}: open"

    @tool(side_effect="external", reconcile=lambda key: _seen(world, key))
    def charge(order: str) -> str:
        """Charge an order."""
        outside(world, session, "charge", order, context().idempotency_key)
        return "charge done"

    @tool(side_effect="local", transaction=True)
    def book(order: str) -> str:
        """Book an order."""
        row = {"session": session, "order": order}
        context().connection.execute(text("insert into own_books values (:session, :order)"), row)
        return "book done"

    @tool(side_effect="external")
    def mail(order: str) -> str:
        """Tell the customer by mail."""
        outside(world, session, "mail", order)
        return "mail done"

    memory = Memory(database)
    tiers = [Tier("only", MODEL, base_url=url)]
    agent = Agent("desk", POLICY, tools=[look, charge, book, mail], tiers=tiers, memory=memory)
    pipe.send("ready")
    try:
        reply = agent.resume(user=USER, session=session)
    except InputError:  # it was not begun, or it was finished before the kill
        if memory.history(session).records() if memory.begun(session) else ():
            pipe.send("finished")
            return
        reply = agent.invoke(ASK, user=USER, session=session)
    pipe.send(reply.text)


def peer(pipe: Pipe, url: str, database: str, world: str, session: str) -> None:
    """Run or resume the same turn with LangGraph's own agent loop on its SqliteSaver."""
    from langchain_core.tools import tool as plain
    from langgraph.checkpoint.sqlite import SqliteSaver

    @plain
    def look(order: str) -> str:
        """Look at an order."""
        return f"order {order}: open"

    @plain
    def charge(order: str) -> str:
        """Charge an order."""
        outside(world, session, "charge", order)
        return "charge done"

    @plain
    def book(order: str) -> str:
        """Book an order."""
        with closing(sqlite3.connect(world, timeout=60, isolation_level=None)) as own:
            own.execute("insert into effects values (?, 'book', ?, '')", (session, order))
        return "book done"

    @plain
    def mail(order: str) -> str:
        """Tell the customer by mail."""
        outside(world, session, "mail", order)
        return "mail done"

    tools = [look, charge, book, mail]
    model: Any = connect(MODEL, base_url=url).bind_tools(tools)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    saver = SqliteSaver(sqlite3.connect(database, check_same_thread=False, timeout=60))
    agent: Any = graph.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": session}}
    pipe.send("ready")
    state = agent.get_state(config)
    if not state.values and not state.next:
        agent.invoke({"messages": [HumanMessage(ASK)]}, config, durability="sync")
    elif state.next:
        agent.invoke(None, config, durability="sync")
    pipe.send(agent.get_state(config).values["messages"][-1].text)
