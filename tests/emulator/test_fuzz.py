"""Whatever a request holds, it is accepted or refused in the vendor's form; nothing breaks."""

import asyncio
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.emulator.anthropic import Messages
from agentmesh.emulator.brain import Answer
from agentmesh.emulator.chat import Chat
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.responses import Responses
from agentmesh.emulator.service import Service

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
MARK = {"type": "ephemeral", "ttl": "5m"}
BODIES = {
    Messages: {
        "model": "claude-opus-5-5",
        "max_tokens": 2_000,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": MARK}],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "output_config": {"effort": "low"},
        "diagnostics": {"previous_message_id": None},
        "cache_control": {"type": "ephemeral"},
        "stream": False,
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "So"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "b"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "r"}],
                    },
                    {"type": "text", "text": "And?", "cache_control": MARK},
                ],
            },
        ],
    },
    Responses: {
        "model": "gpt-6.1-sol",
        "instructions": "Be kind.",
        "max_output_tokens": 500,
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low", "format": {"type": "text"}},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_options": {"mode": "implicit", "ttl": "30m", "comparison_response_id": "r"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
        "input": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "input_text",
                        "text": "Hi",
                        "prompt_cache_breakpoint": {"mode": "explicit"},
                    }
                ],
            },
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "h"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "ok"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"role": "user", "content": "And?"},
        ],
    },
    Chat: {
        "model": "gpt-6.1-sol",
        "max_completion_tokens": 100,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "prompt_cache_options": {"mode": "implicit"},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        ],
    },
}
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Return the paths of all nodes of a JSON value but the root."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += places(inner, (*path, key))
    return found


def answer_to(dialect, body):
    """Return the response or the vendor's refusal of a request, without the HTTP between."""
    service = Service(
        lambda request: Answer("yes", [("f", {"a": "b"})], reasoning="hm"), clock=lambda: 1e9
    )

    async def run():
        try:
            parsed = service.read(dialect, body, "k")
            prepared = await service.prepare(dialect, parsed, 1e9)
        except Refusal as refusal:
            return dialect.error(refusal, "req")
        service.begin(prepared)
        service.charge(prepared)
        events = list(dialect.events(prepared.reply))
        assert b"".join(map(dialect.encode, events))
        return dialect.body(prepared.reply)

    done = asyncio.run(run())
    json.dumps(done)
    return done


@pytest.mark.parametrize("dialect", BODIES)
def test_the_bodies_that_are_changed_here_are_accepted(dialect):
    assert "error" not in {
        key for key, value in answer_to(dialect(), BODIES[dialect]).items() if value
    }


@settings(max_examples=120, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("dialect", BODIES)
def test_a_changed_request_is_accepted_or_refused(dialect, data):
    body = copy.deepcopy(BODIES[dialect])
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(places(body)))
        node = body
        for key in way:
            node = node[key]
        if data.draw(st.booleans()):
            node[last] = data.draw(ODD)
        else:
            del node[last]
    before = copy.deepcopy(body)
    assert answer_to(dialect(), body)
    assert body == before
