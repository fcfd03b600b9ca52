"""Recorded conversations, replayed whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh import replay
from agentmesh.errors import InputError

SCHEMAS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Find an order.",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
        },
    }
]


NO_OBJECT = {"id": "a", "function": {"name": "f", "arguments": "[1]"}}


def call(call_id: str, order: str) -> dict[str, Any]:
    arguments = json.dumps({"order": order})
    return {"id": call_id, "type": "function", "function": {"name": "find", "arguments": arguments}}


def conversation(**changes: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You are the desk. " * 300},
        {"role": "assistant", "content": "Welcome!"},
        {"role": "user", "content": "Where are my orders?"},
        {"role": "assistant", "content": "", "tool_calls": [call("a", "W1"), call("b", "W2")]},
        {"role": "tool", "tool_call_id": "a", "content": "on its way"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "assistant", "content": "W1 is on its way, of W2 I know nothing."},
        {"role": "user", "content": "Then hand me over."},
        {"role": "assistant", "content": "One moment.", "tool_calls": [call("a", "W1")]},
        {"role": "tool", "tool_call_id": "a", "content": "handed over"},
    ]
    return {"id": "one", "messages": messages, **changes}


def file(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize(
    "model",
    ["anthropic:claude-opus-5-5", "openai:gpt-5.6", "openai:gpt-4o", "openai-compatible:own"],
)
def test_replays_a_conversation_whole_on_every_api(tmp_path: Path, model: str) -> None:
    talks = replay.read(file(tmp_path, conversation(), conversation(id="two")))
    done = replay.replay(talks, SCHEMAS, model=model)
    assert (done.conversations, done.requests, done.steps, done.tool_calls) == (2, 4, 6, 6)
    assert (done.refused, done.escalated, done.blocked) == (0, 0, 0)
    assert (done.requests_per_usd is None) == (done.cost is None)
    assert done.read_share > 0.5
    assert (done.cost is None) == model.startswith("openai-compatible")


def test_interleaved_replays_bill_the_same_tokens(tmp_path: Path) -> None:
    rows = [conversation(id=str(n)) for n in range(6)]
    for number, row in enumerate(rows):
        row["messages"][2]["content"] += f" I am customer {number}."
    talks = replay.read(file(tmp_path, *rows))
    alone, together = (replay.replay(talks, SCHEMAS, interleaved=n) for n in (1, 3))
    assert alone.steps == together.steps
    assert alone.usage.input == together.usage.input


def test_a_cached_replay_is_cheaper_than_an_uncached_one(tmp_path: Path) -> None:
    talks = replay.read(file(tmp_path, conversation()))
    cached, plain = (replay.replay(talks, SCHEMAS, cache=on) for on in (True, False))
    assert cached.cost is not None
    assert plain.cost is not None
    assert cached.cost < plain.cost
    assert plain.input_ratio == 1.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json", "talks.jsonl:2 is not JSON"),
        ('{"id": 1}', "talks.jsonl:2 has no messages"),
        ('{"messages": []}', "talks.jsonl:2 has no messages"),
        ('{"messages": [{"role": "robot"}]}', "talks.jsonl:2 has the message"),
        (
            '{"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}',
            "talks.jsonl:2 has the tool call",
        ),
        (
            json.dumps({"messages": [{"role": "assistant", "tool_calls": [NO_OBJECT]}]}),
            "talks.jsonl:2 has the tool call",
        ),
    ],
)
def test_names_the_line_of_a_corrupt_recording(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        replay.read(file(tmp_path, conversation(), row))
    assert caught.value.hint


def test_refuses_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no conversation"):
        replay.read(file(tmp_path, ""))
    with pytest.raises(InputError, match="cannot be read"):
        replay.read(tmp_path / "none.jsonl")
    (tmp_path / "tools.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="holds no list of tools"):
        replay.read_tools(tmp_path / "tools.json")
