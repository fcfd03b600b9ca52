from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from agentmesh.errors import ConfigError, InputError
from agentmesh.memory import Memory
from agentmesh.memory.conformance import say
from agentmesh.memory.turns import CUT_SHORT

CALL = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"n": 1}'}}
CHAT = [
    {"role": "system", "content": "You are the desk."},
    {"role": "user", "content": "Where is my order?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "on its way"},
    {"role": "assistant", "content": [{"type": "text", "text": "On its way."}]},
    {"role": "user", "content": "Thanks"},
    {"role": "user", "content": "and bye"},
    {"role": "assistant", "content": "Bye.", "tool_calls": [{**CALL, "id": "c2"}]},
]


def _file(folder: Path, *rows: Any) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def test_a_chat_becomes_a_session_that_goes_on(memory: Memory, tmp_path: Path) -> None:
    path = _file(tmp_path, {"messages": CHAT, "session": "old", "user": "u1"}, {"messages": CHAT})
    assert memory.import_chats(path, user="u2") == ["old", "chats-2"]
    assert memory.sessions(user="u2") == ["chats-2"]
    said = [(e.turn, e.kind, e.blocks[-1].get("text")) for e in memory.history("old").entries()]
    assert said == [
        (1, "user", "Where is my order?"),
        (1, "assistant", None),
        (1, "tool", "on its way"),
        (1, "assistant", "On its way."),
        (2, "user", "Thanks"),
        (2, "user", "and bye"),
        (2, "assistant", None),
        (2, "tool", CUT_SHORT),
    ]
    prompt = say(memory, "one more thing", session="old")
    assert len(prompt.entries) == 9
    assert prompt.entries[-1].turn == 3
    assert memory.verify().calls == 1
    assert memory.reopen_turn(session="old", user="u1") is None


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("{", "line 2 is not JSON"),
        ({}, "line 2 has no messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role 'robot'"),
        ({"messages": ["hi"]}, "not a message"),
        ({"messages": [{"role": "tool", "tool_call_id": "c9", "content": "x"}]}, "no call"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text alone"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "broken tool call"),
        ({"messages": CHAT, "session": "good"}, "'good' exists"),
        ({"messages": CHAT, "session": "a\nb"}, "not text"),
    ],
)
def test_a_bad_line_imports_nothing(memory: Memory, tmp_path: Path, row: Any, match: str) -> None:
    path = _file(tmp_path, {"messages": CHAT, "session": "good"}, row)
    with pytest.raises(InputError, match=match) as caught:
        memory.import_chats(path, user="u1")
    assert caught.value.hint
    assert memory.sessions() == []


def test_a_chat_of_nobody_is_refused(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose chat"):
        memory.import_chats(_file(tmp_path, {"messages": CHAT}))
    with pytest.raises(ConfigError, match="cannot be read"):
        memory.import_chats(tmp_path / "nope.jsonl", user="u1")


def _threads() -> InMemorySaver:
    saver = InMemorySaver()
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [AIMessage("You said it.")]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    agent = graph.compile(checkpointer=saver)
    for thread in ("t1", "t2"):
        for text in ("one", "two"):
            agent.invoke(
                {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": thread}}
            )
    call = {"id": "c1", "name": "lookup", "args": {"n": 1}}
    tooled = [
        SystemMessage("You are the desk."),
        HumanMessage("look"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("found", tool_call_id="c1"),
    ]
    agent.invoke({"messages": tooled}, {"configurable": {"thread_id": "t3"}})
    return saver


def test_langgraph_threads_become_sessions(memory: Memory) -> None:
    saver = _threads()
    made = memory.import_checkpoints(saver, user=lambda thread: f"user of {thread}")
    assert made == ["t1", "t2", "t3"]
    texts = [e.blocks[0].get("text") for e in memory.history("t1").entries()]
    assert texts == ["one", "You said it.", "two", "You said it."]
    kinds = [e.kind for e in memory.history("t3").entries()]
    assert kinds == ["user", "assistant", "tool", "assistant"]
    assert memory.history("t3").entries()[1].blocks[0]["arguments"] == '{"n": 1}'
    assert memory.sessions(user="user of t2") == ["t2"]
    assert memory.verify().sessions == 3


def test_only_the_threads_that_were_asked_for(memory: Memory) -> None:
    saver = _threads()
    with pytest.raises(InputError, match="no thread 'nope'"):
        memory.import_checkpoints(saver, user="u1", threads=["t1", "nope"])
    assert memory.sessions() == []
    assert memory.import_checkpoints(saver, user="u1", threads=["t2"]) == ["t2"]
