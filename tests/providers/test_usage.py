"""Usage and stop reasons, from our models and from everybody else's messages."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from agentmesh.economy.usage import Usage
from agentmesh.providers import stop_of, usage_of
from agentmesh.providers.usage import from_anthropic, from_openai


def message(details: dict[str, Any], **output: Any) -> AIMessage:
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}
    return AIMessage(
        "x",
        usage_metadata={**usage, "input_token_details": details, "output_token_details": output},
    )


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({}, Usage(fresh=100, output=7)),
        ({"cache_read": 60}, Usage(fresh=40, read=60, output=7)),
        ({"cache_read": 60, "cache_creation": 30}, Usage(10, 60, 30, 0, 7)),
        (
            {
                "cache_read": 60,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 10,
                "ephemeral_1h_input_tokens": 20,
            },
            Usage(10, 60, 10, 20, 7),
        ),
        (
            {
                "cache_creation": 30,
                "ephemeral_1h_input_tokens": 20,
                "ephemeral_5m_input_tokens": 10,
            },
            Usage(70, 0, 10, 20, 7),
        ),
        ({"priority_cache_read": 60, "priority": 40}, Usage(40, 60, output=7)),
        ({"audio": 3}, Usage(fresh=100, output=7)),
        ({"cache_read": 500}, Usage(read=500, output=7)),
    ],
)
def test_any_models_usage(details: dict[str, Any], expected: Usage) -> None:
    assert usage_of(message(details)) == expected


def test_reasoning_and_nothing() -> None:
    assert usage_of(message({}, reasoning=5)).reasoning == 5
    assert usage_of(message({}, flex_reasoning=5)).reasoning == 5
    assert usage_of(AIMessage("x")) == Usage()


def test_anthropics_usage_is_a_total_with_its_split() -> None:
    raw = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 9,
    }
    found = from_anthropic(raw)
    assert (found["input_tokens"], found["output_tokens"], found["total_tokens"]) == (133, 9, 142)
    assert found["input_token_details"] == {
        "cache_read": 100,
        "cache_creation": 30,
        "ephemeral_5m_input_tokens": 10,
        "ephemeral_1h_input_tokens": 20,
    }
    assert usage_of(AIMessage("", usage_metadata=found)) == Usage(3, 100, 10, 20, 9)
    bare = from_anthropic({"input_tokens": 3, "cache_creation_input_tokens": 5})
    assert usage_of(AIMessage("", usage_metadata=bare)) == Usage(3, 0, 5, 0, 0)
    nulls = from_anthropic({"input_tokens": 3, "cache_creation": None, "output_tokens": None})
    assert usage_of(AIMessage("", usage_metadata=nulls)) == Usage(3)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(fresh=9, output=2)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(fresh=9)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 4)),
        (
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
            Usage(5, 4),
        ),
        ({"prompt_tokens": 9, "cached_tokens": 4}, Usage(5, 4)),
        (
            {
                "input_tokens": 99,
                "input_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 40},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 50, 40, 0, 3, 2),
        ),
        ({}, Usage()),
        ({"prompt_tokens": -9, "completion_tokens": -2}, Usage()),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": -4}}, Usage(9)),
    ],
)
def test_openais_usage_and_its_imitations(raw: dict[str, Any], expected: Usage) -> None:
    assert usage_of(AIMessage("", usage_metadata=from_openai(raw))) == expected


CALL = [{"name": "f", "args": {}, "id": "1"}]


@pytest.mark.parametrize(
    ("metadata", "calls", "expected"),
    [
        ({"stop_reason": "end_turn"}, [], "end"),
        ({"stop_reason": "stop_sequence"}, [], "end"),
        ({"stop_reason": "tool_use"}, CALL, "tools"),
        ({"stop_reason": "max_tokens"}, CALL, "length"),
        ({"stop_reason": "model_context_window_exceeded"}, [], "length"),
        ({"stop_reason": "refusal"}, [], "refusal"),
        ({"stop_reason": "pause_turn"}, [], "unknown"),
        ({"stop_reason": "completed"}, CALL, "tools"),
        ({"finish_reason": "stop"}, CALL, "tools"),
        ({"finish_reason": "STOP"}, [], "end"),
        ({"finish_reason": "MAX_TOKENS"}, [], "length"),
        ({"finish_reason": "SAFETY"}, [], "refusal"),
        ({"finish_reason": "content_filter"}, [], "refusal"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            [],
            "length",
        ),
        ({"status": "completed", "incomplete_details": None}, [], "end"),
        ({"done_reason": "stop"}, [], "end"),
        ({}, CALL, "tools"),
        ({}, [], "unknown"),
    ],
)
def test_why_a_model_stopped(metadata: dict[str, Any], calls: list[Any], expected: str) -> None:
    assert stop_of(AIMessage("x", tool_calls=calls, response_metadata=metadata)) == expected


def test_a_refusal_beside_the_content() -> None:
    said = AIMessage(
        "", additional_kwargs={"refusal": "no"}, response_metadata={"finish_reason": "stop"}
    )
    assert stop_of(said) == "refusal"
