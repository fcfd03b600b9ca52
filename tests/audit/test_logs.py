from __future__ import annotations

import json

import pytest

from agentmesh.audit.audit import Audit
from agentmesh.audit.logs import read
from agentmesh.audit.pieces import Flaw, named, time_of, tools_of, usage_of
from agentmesh.economy.usage import Usage

SYSTEM = {"role": "system", "content": "You are a desk. " * 300}
ASK = {"role": "user", "content": "Where is my order?"}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"order":1}'}}


def only(value):
    (log,) = read(value)
    return log


def test_an_openai_conversation_has_a_step_for_each_answer():
    messages = [
        SYSTEM,
        {"role": "assistant", "content": "Hello, how can I help?"},
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "on its way", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is on its way."},
    ]
    log = only({"model": "gpt-4.1", "messages": messages, "tools": [TOOL]})
    assert (log.form, log.model) == ("openai", "openai:gpt-4.1")
    assert [step.upto for step in log.steps] == [
        4,
        6,
    ]  # the tools come first; a greeting is no call
    assert [step.calls for step in log.steps] == [1, 0]
    assert log.parts[0].kind == "tools"


def test_an_openai_request_with_its_response_is_one_step():
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 1024},
    }
    log = only(
        {
            "request": {"model": "gpt-5", "messages": [SYSTEM, ASK]},
            "response": {"choices": [{"message": {"content": "Soon."}}], "usage": usage},
            "timestamp": "2026-11-01T10:00:00Z",
            "session_id": "s1",
        }
    )
    (step,) = log.steps
    assert (log.session, step.upto, step.prompt) == ("s1", 2, 1200)
    assert step.used == Usage(fresh=176, read=1024, output=9)
    assert step.at == time_of("2026-11-01T10:00:00+00:00")


def test_a_batch_line_of_openai():
    log = only(
        {
            "custom_id": "1",
            "body": {"model": "gpt-5", "messages": [ASK]},
            "response": {"body": {"choices": [{"message": {"content": "Soon."}}]}},
        }
    )
    assert log.steps[0].output == 2


def test_an_anthropic_request_with_marks():
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "found"}],
            },
        ],
    }
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 70,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 50},
        "output_tokens": 8,
    }
    log = only(
        {
            "request": body,
            "response": {"content": [{"type": "text", "text": "Yes"}], "usage": usage},
        }
    )
    assert (log.form, log.model, log.marked) == ("anthropic", "anthropic:claude-opus-5-5", True)
    assert log.steps[0].used == Usage(5, 900, 20, 50, 8)
    assert [part.kind for part in log.parts] == ["system", "user", "assistant", "user"]
    assert log.parts[2].calls == 1
    assert "found" in log.parts[3].text


def test_a_langsmith_run():
    run = {
        "id": "r1",
        "run_type": "llm",
        "trace_id": "t1",
        "start_time": "2026-11-01T10:00:00",
        "inputs": {
            "messages": [
                [
                    {"id": ["langchain", "SystemMessage"], "kwargs": {"content": "Rules."}},
                    {
                        "id": ["langchain", "HumanMessage"],
                        "kwargs": {"content": "Hi", "type": "human"},
                    },
                ]
            ]
        },
        "outputs": {
            "generations": [
                [
                    {
                        "message": {
                            "kwargs": {
                                "content": "Hello",
                                "type": "ai",
                                "usage_metadata": {
                                    "input_tokens": 100,
                                    "output_tokens": 3,
                                    "input_token_details": {"cache_read": 60, "cache_creation": 30},
                                },
                            }
                        }
                    }
                ]
            ]
        },
        "extra": {"metadata": {"ls_provider": "anthropic", "ls_model_name": "claude-haiku-5-5"}},
    }
    log = only(run)
    assert (log.form, log.session, log.model) == ("langsmith", "t1", "anthropic:claude-haiku-5-5")
    assert [part.kind for part in log.parts] == ["system", "user"]
    assert log.steps[0].used == Usage(10, 60, 30, 0, 3)
    assert list(read({"run_type": "chain", "inputs": {}})) == []


def otel(attributes):
    listed = [
        {"key": key, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in attributes.items()
    ]
    span = {
        "traceId": "t1",
        "spanId": "s1",
        "startTimeUnixNano": "1790000000000000000",
        "attributes": listed,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def test_an_opentelemetry_export():
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}])
    log = only(
        otel(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.conversation.id": "s9",
                "gen_ai.input.messages": messages,
                "gen_ai.output.messages": messages,
                "gen_ai.usage.input_tokens": 50,
                "gen_ai.usage.output_tokens": 5,
                "gen_ai.usage.cache_read.input_tokens": 20,
            }
        )
    )
    assert (log.form, log.session, log.model) == ("otel", "s9", "openai:gpt-5")
    assert log.parts[0].text == "Hi"
    assert log.steps[0].used == Usage(fresh=30, read=20, output=5)
    assert log.steps[0].at == 1_790_000_000
    assert list(read(otel({"gen_ai.operation.name": "execute_tool"}))) == []


def test_what_is_recorded_by_ourselves_and_by_older_tracers_is_understood():
    usage = {
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_write.input_tokens": 10,
    }
    flat = {
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude-opus-5-5",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Rules.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": "Hi",
        "gen_ai.completion.0.content": "Hello there",
    }
    log = only({"attributes": {**usage, **flat}, "context": {"trace_id": "0x1"}})
    assert (log.session, log.model) == ("0x1", "anthropic:claude-opus-5-5")
    assert [(part.kind, part.text) for part in log.parts] == [("system", "Rules."), ("user", "Hi")]
    assert log.steps[0].used == Usage(fresh=20, read=20, write=10)
    assert log.steps[0].output == 3
    said = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    event = {"name": "details", "attributes": {"gen_ai.input.messages": said}}
    about = {"gen_ai.request.model": "gpt-5", "gen_ai.operation.name": "chat"}
    assert only({"attributes": about, "events": [event]}).parts[0].text == "Hi"
    with pytest.raises(Flaw, match="left content out"):
        only({"attributes": about})


def test_messages_as_structured_attributes():
    text = {"key": "content", "value": {"stringValue": "Hi"}}
    role = {"key": "role", "value": {"stringValue": "user"}}
    listed = {"arrayValue": {"values": [{"kvlistValue": {"values": [role, text]}}]}}
    span = {
        "spanId": "s",
        "attributes": [
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-5"}},
            {"key": "gen_ai.input.messages", "value": listed},
        ],
    }
    assert [(part.kind, part.text) for part in only(span).parts] == [("user", "Hi")]


def test_a_tau2_conversation_and_a_tau_bench_one():
    rows = [ASK, {"role": "assistant", "content": "Soon.", "usage": {"prompt_tokens": 7}}]
    log = only({"task_id": "3", "reward": 1.0, "model": "claude-opus-4-6", "messages": rows})
    assert (log.form, log.steps[0].prompt, log.steps[0].used) == ("tau2-bench", 7, None)
    assert only({"task_id": 3, "reward": 0.0, "traj": rows}).form == "tau-bench"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (3, "unknown form"),
        ({"a": 1}, "unknown form"),
        ({"messages": []}, "unknown form"),
        ({"messages": [ASK]}, "without its response"),
        ({"messages": [ASK], "usage": {"prompt_tokens": -5}}, "negative usage"),
        (
            {"messages": [ASK], "usage": {"prompt_tokens": 5, "cached_tokens": 9}},
            "more cached tokens than prompt",
        ),
        ({"task_id": 1, "reward": 1, "messages": ["text"]}, "not an object"),
        ({"task_id": 1, "reward": 1, "messages": [SYSTEM]}, "without an answer"),
    ],
)
def test_a_record_that_cannot_be_right_says_why(value, why):
    with pytest.raises(Flaw, match=why):
        list(read(value))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1_790_000_000, 1_790_000_000),
        (1_790_000_000_000, 1_790_000_000),
        ("1790000000000000000", 1_790_000_000),
        ("2026-09-21T14:13:20+00:00", 1_790_000_000),
        ("yesterday", None),
        (None, None),
        (True, None),
    ],
)
def test_times_of_every_kind(given, seconds):
    assert time_of(given) == seconds


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-opus-5-5", "anthropic:claude-opus-5-5"),
        ("anthropic/claude-opus-5-5", "anthropic:claude-opus-5-5"),
        ("us.anthropic.claude-opus-5-5", "anthropic:claude-opus-5-5"),
        ("openai/gpt-5", "openai:gpt-5"),
        ("o3", "openai:o3"),
        ("qwen3-8b", "openai-compatible:qwen3-8b"),
        ("openai:gpt-5", "openai:gpt-5"),
        ("", ""),
    ],
)
def test_models_get_their_vendor(name, model):
    assert named("", name) == model


def test_images_count_and_tools_are_one_part():
    log = only(
        {
            "model": "gpt-5",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "usage": {"prompt_tokens": 3},
        }
    )
    assert log.parts[0].tokens == 1_500
    assert len(tools_of([TOOL, TOOL])) == 1
    assert tools_of(None) == []


def test_usage_without_the_cache_is_no_bill():
    assert usage_of({"prompt_tokens": 5, "completion_tokens": 2}) == (5, 2, None)
    assert usage_of({}) == (None, None, None)


def test_schemas_from_a_file_of_their_own_stand_first():
    taker = Audit(tools=tools_of([TOOL]))
    taker.add(next(read({"model": "gpt-5", "messages": [ASK, {"role": "assistant"}]}, taker.tools)))
    assert taker.report().input > tools_of([TOOL])[0].tokens
