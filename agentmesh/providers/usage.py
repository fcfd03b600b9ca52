"""What a call used and why it stopped, read from any chat model's message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from agentmesh.economy.usage import Usage

Stop = Literal["end", "tools", "length", "refusal", "unknown"]

_SHORT = ("ephemeral_5m_input_tokens", "ephemeral_30m_input_tokens")
_LONG = ("ephemeral_1h_input_tokens", "ephemeral_12h_input_tokens")

_STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "stop": "end",
    "completed": "end",
    "tool_use": "tools",
    "tool_calls": "tools",
    "function_call": "tools",
    "max_tokens": "length",
    "length": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "content_filter": "refusal",
    "safety": "refusal",
    "prohibited_content": "refusal",
}


def usage_of(message: AIMessage) -> Usage:
    """Return the tokens that a message's call was billed for; zeros where its model told none.

    Cache writes are read from the split by time to live where there is one: some integrations set
    the plain `cache_creation` to 0 then. Keys with a service tier in front (`flex_cache_read`)
    count as the plain ones.
    """
    told = message.usage_metadata
    if told is None:
        return Usage()
    details: Mapping[str, Any] = told.get("input_token_details") or {}
    read = _sum(details, "cache_read")
    long = sum(_count(details.get(key)) for key in _LONG)
    short = max(
        sum(_count(details.get(key)) for key in _SHORT), _sum(details, "cache_creation") - long
    )
    return Usage(
        fresh=max(0, _count(told.get("input_tokens")) - read - short - long),
        read=read,
        write=short,
        write_long=long,
        output=_count(told.get("output_tokens")),
        reasoning=_sum(told.get("output_token_details") or {}, "reasoning"),
    )


def stop_of(message: AIMessage) -> Stop:
    """Return why a model stopped; only `end` and `tools` are whole answers."""
    metadata = message.response_metadata
    incomplete = metadata.get("incomplete_details") or {}
    reason = (
        metadata.get("stop_reason")
        or metadata.get("finish_reason")
        or incomplete.get("reason")
        or metadata.get("status")
        or metadata.get("done_reason")
    )
    calls = bool(message.tool_calls or message.invalid_tool_calls)
    if message.additional_kwargs.get("refusal"):
        return "refusal"
    if not reason:
        return "tools" if calls else "unknown"
    stop = _STOPS.get(str(reason).lower(), "unknown")
    return "tools" if stop == "end" and calls else stop


def from_anthropic(raw: Mapping[str, Any]) -> UsageMetadata:
    """Return the Messages API's usage as langchain's; its `input_tokens` is the uncached rest."""
    split = raw.get("cache_creation") or {}
    short = _count(split.get("ephemeral_5m_input_tokens"))
    long = _count(split.get("ephemeral_1h_input_tokens"))
    written = max(_count(raw.get("cache_creation_input_tokens")), short + long)
    read = _count(raw.get("cache_read_input_tokens"))
    details: dict[str, int] = {"cache_read": read, "cache_creation": written}
    if split:
        details |= {_SHORT[0]: written - long, _LONG[0]: long}
    thinking = _count((raw.get("output_tokens_details") or {}).get("thinking_tokens"))
    return _metadata(
        _count(raw.get("input_tokens")) + read + written,
        _count(raw.get("output_tokens")),
        details,
        thinking,
    )


def from_openai(raw: Mapping[str, Any]) -> UsageMetadata:
    """Return the usage of the Responses API, or of any server of Chat Completions, as langchain's.

    Servers leave details out (vLLM, Ollama, llama.cpp) or name them differently (DeepSeek's
    `prompt_cache_hit_tokens`, Moonshot's `cached_tokens`).
    """
    inputs = raw.get("input_tokens_details") or raw.get("prompt_tokens_details") or {}
    outputs = raw.get("output_tokens_details") or raw.get("completion_tokens_details") or {}
    total = _count(raw.get("input_tokens", raw.get("prompt_tokens")))
    read = next(
        (
            _count(value)
            for value in (
                inputs.get("cached_tokens"),
                raw.get("prompt_cache_hit_tokens"),
                raw.get("cached_tokens"),
            )
            if value is not None
        ),
        0,
    )
    split = inputs.get("cache_write_tokens_details") or {}
    long = _count(split.get("ttl_12h_tokens"))
    written = max(
        _count(inputs.get("cache_write_tokens")), _count(split.get("ttl_30m_tokens")) + long
    )
    details: dict[str, int] = {"cache_read": read, "cache_creation": written}
    if split:
        details |= {_SHORT[1]: written - long, _LONG[1]: long}
    return _metadata(
        max(total, read + written),
        _count(raw.get("output_tokens", raw.get("completion_tokens"))),
        details,
        _count(outputs.get("reasoning_tokens")),
    )


def _metadata(total: int, output: int, details: dict[str, int], reasoning: int) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=total,
        output_tokens=output,
        total_tokens=total + output,
        input_token_details=InputTokenDetails(**details),  # type: ignore[typeddict-item]  # open
        output_token_details=OutputTokenDetails(reasoning=reasoning),
    )


def _sum(details: Mapping[str, Any], name: str) -> int:
    return sum(
        _count(value) for key, value in details.items() if key == name or (key.endswith(f"_{name}"))
    )


def _count(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0
