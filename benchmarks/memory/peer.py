"""The peer: LangGraph with its SqliteSaver, one model node, the same words, in the same run."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.memory.turns import ANSWER_CHARS, ASK_CHARS, words


def missing() -> str:
    """Return an empty string if the peer is installed, or what to do."""
    try:
        import langgraph.checkpoint.sqlite  # noqa: F401  # asked for whether it is there
    except ImportError:
        return "no peer: pip install langgraph-checkpoint-sqlite"
    return ""


def graph(path: Path) -> Any:
    """Compile the peer's graph over a file."""
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, MessagesState, StateGraph

    saver = SqliteSaver(sqlite3.connect(path, check_same_thread=False, timeout=60))
    built = StateGraph(MessagesState)
    built.add_node(
        "model",
        lambda state: {"messages": [AIMessage(words(ANSWER_CHARS, len(state["messages"])))]},
    )
    built.add_edge(START, "model")
    built.add_edge("model", END)
    return built.compile(checkpointer=saver)


def turn_of(compiled: Any) -> Callable[[str, int], Any]:
    """Return a function that runs one turn of the peer."""
    from langchain_core.messages import HumanMessage

    def turn(session: str, n: int) -> Any:
        message = HumanMessage(words(ASK_CHARS, n))
        return compiled.invoke(
            {"messages": [message]}, {"configurable": {"thread_id": session}}, durability="sync"
        )

    return turn


def one_session(path: Path, writers: int, turns: int) -> tuple[int, int]:
    """Let workers write turns to one thread; returns how many were asked for and are there."""
    start = threading.Barrier(writers)

    def work(rank: int) -> None:
        turn = turn_of(graph(path))  # a connection of its own, as another process has
        start.wait()
        for n in range(turns // writers):
            turn("shared", rank * 1_000 + n)

    graph(path).checkpointer.setup()
    pool = [threading.Thread(target=work, args=(rank,)) for rank in range(writers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    state = graph(path).get_state({"configurable": {"thread_id": "shared"}})
    there = {m.content for m in state.values["messages"] if m.type == "human"}
    return turns // writers * writers, len(there)
