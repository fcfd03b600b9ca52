"""One log, shown to each model in its own way, each entry converted once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.prompt import Entry, Marks, Prompt, Segment, ToolSpec
from agentmesh.providers import forget, to_blocks, to_messages, to_tools

CLAUDE = "anthropic:claude-opus-5-5"
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def entry(seq: int, kind: Any, *blocks: dict[str, Any]) -> Entry:
    return Entry(seq, 1, seq, kind, canonical.dumps({"blocks": list(blocks)}))


ENTRIES = (
    entry(1, "user", text("Q")),
    entry(
        2,
        "assistant",
        {"type": "opaque", "model": CLAUDE, "data": THOUGHT},
        text("A"),
        {"type": "call", "id": "c", "name": "f", "arguments": '{"b": 1, "a": 2}'},
    ),
    entry(3, "tool", {"type": "result", "id": "c", "name": "f", "text": "R", "error": True}),
)


def test_kinds_of_entry_become_kinds_of_message() -> None:
    prompt = Prompt((), (Segment("core", "S"),), ENTRIES, "T", Marks({}, {2: "short"}), "key")
    system, user, answer, result, tail = to_messages(prompt, CLAUDE)
    assert isinstance(system, SystemMessage)
    assert isinstance(user, HumanMessage)
    assert isinstance(result, ToolMessage)
    assert (result.tool_call_id, result.name, result.status) == ("c", "f", "error")
    assert (system.text, user.text, result.text, tail.text) == ("S", "Q", "R", "T")
    assert system.additional_kwargs == {"cache_key": "key"}
    assert isinstance(answer, AIMessage)
    assert answer.tool_calls[0]["args"] == {"b": 1, "a": 2}
    assert to_blocks(answer, CLAUDE) == ENTRIES[1].blocks
    marks = [block.get("mark") for block in answer.content]
    assert marks == [None, None, "short"]


def test_a_mark_never_stands_on_a_bound_block() -> None:
    last = entry(1, "assistant", text("A"), {"type": "opaque", "model": CLAUDE, "data": THOUGHT})
    (answer,) = to_messages(Prompt((), (), (last,), marks=Marks({}, {1: "long"})), CLAUDE)
    assert [block.get("mark") for block in answer.content] == ["long", None]


def test_a_foreign_model_gets_plain_messages() -> None:
    marks = Marks({"core": "long"}, {3: "short"})
    prompt = Prompt((), (Segment("core", "S"), Segment("task", "T")), ENTRIES, "", marks, "key")
    system, user, answer, result = to_messages(prompt, "some-model")
    assert (system.content, user.content, result.content) == ("S\n\nT", "Q", "R")
    assert answer.content == "A"
    assert answer.tool_calls[0]["args"] == {"b": 1, "a": 2}
    assert not system.additional_kwargs


def test_a_foreign_models_own_blocks_go_back_to_it() -> None:
    said = AIMessage([THOUGHT | {"index": 0}, text("A")])
    stored = entry(1, "assistant", *to_blocks(said, "some-model"))
    (again,) = to_messages(Prompt((), (), (stored,)), "some-model")
    assert again.content == [THOUGHT, text("A")]
    (other,) = to_messages(Prompt((), (), (stored,)), "other-model")
    assert other.content == "A"


def test_blank_entries_are_left_out() -> None:
    entries = (entry(1, "user", text(" ")), entry(2, "assistant", text("\n")))
    assert to_messages(Prompt((), (), entries, " \n"), CLAUDE) == []


def test_a_call_in_a_users_entry_is_refused() -> None:
    call = {"type": "call", "id": "c", "name": "f", "arguments": "{}"}
    with pytest.raises(InputError, match="'call'"):
        to_messages(Prompt((), (), (entry(1, "user", call),)), CLAUDE)


def test_tools_are_sorted_and_the_last_one_marked() -> None:
    specs = (ToolSpec("b", "B", "{}"), ToolSpec("a", "A", '{"type":"object"}'))
    prompt = Prompt(specs, (), (), marks=Marks({"tools": "short"}))
    first, last = to_tools(prompt)
    assert first["function"] == {"name": "a", "description": "A", "parameters": {"type": "object"}}
    assert (first.get("mark"), last["mark"]) == (None, "short")
    assert all("mark" not in tool for tool in to_tools(prompt, marks=False))
    assert to_tools(Prompt((), (), ())) == []


def test_unchanged_entries_are_not_converted_again() -> None:
    forget()
    many = tuple(
        entry(seq, kind, *blocks)
        for seq in range(0, 200, 4)
        for seq, kind, blocks in (
            (seq, "user", [text(f"question {seq} " * 40)]),
            (seq + 1, "assistant", ENTRIES[1].blocks),
            (seq + 2, "tool", [{**ENTRIES[2].blocks[0], "text": f"result {seq} " * 100}]),
            (seq + 3, "assistant", [text(f"answer {seq} " * 40)]),
        )
    )
    prompt = Prompt((), (), many)

    def took() -> float:
        started = time.perf_counter()
        to_messages(prompt, CLAUDE)
        return time.perf_counter() - started

    first = took()
    again = min(took() for _ in range(5))
    assert again < first / 10
    one, two = to_messages(prompt, CLAUDE), to_messages(prompt, CLAUDE)
    assert all(a is b for a, b in zip(one, two, strict=True))
    forget()
    assert to_messages(prompt, CLAUDE)[0] is not one[0]
