"""The pieces of chat logs: prompts' parts, the steps made on them, what they used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from agentmesh.economy.tokens import count
from agentmesh.economy.usage import Usage

IMAGE_TOKENS = 1_500


class Part(NamedTuple):
    """One piece of a prompt in the order that it was sent: the tools, the system, a message."""

    kind: str
    text: str
    tokens: int
    calls: int = 0


class Step(NamedTuple):
    """One model call: the prompt is the log's parts before `upto`.

    `used` is what was billed, where the log says so with its cache; `prompt` and `output` are
    tokens of prompt and answer (None where the log does not tell the prompt's).
    """

    upto: int
    output: int
    calls: int = 0
    prompt: int | None = None
    used: Usage | None = None
    at: float | None = None
    cost_usd: float | None = None
    text: str = ""


class Log(NamedTuple):
    """A conversation, or one request of it, as it was logged."""

    form: str
    session: str
    model: str
    parts: Sequence[Part]
    steps: Sequence[Step]
    marked: bool = False


class Flaw(Exception):
    """What is wrong with a record that is otherwise understood."""


def part_of(role: str, message: Mapping[str, Any]) -> Part:
    """Return a message as a part; its text holds all that the model is shown of it."""
    content = message.get("content", message.get("parts", message.get("text")))
    if content is None:
        content = message.get("tool_messages")
    calls = message.get("tool_calls") or ()
    if isinstance(content, str) and not calls:
        return Part(role, content, count(content))
    texts, images, number = texts_of(content)
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function") if isinstance(call.get("function"), dict) else call
            texts.append(called(function or {}))
            number += 1
    return Part(role, "\n".join(texts), sum(map(count, texts)) + images * IMAGE_TOKENS, number)


def called(call: Mapping[str, Any]) -> str:
    """Return what a tool call adds to a prompt: its name and its arguments."""
    arguments = call.get("arguments", call.get("args", call.get("input", "")))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{call.get('name', '')}{text}"


def texts_of(content: Any) -> tuple[list[str], int, int]:
    """Return a content's texts, its images and its tool calls."""
    if isinstance(content, str):
        return [content], 0, 0
    texts: list[str] = []
    images = calls = 0
    for block in content if isinstance(content, list) else ():
        if isinstance(block, str):
            texts.append(block)
        elif isinstance(block, dict):
            kind = str(block.get("type", "text"))
            if "image" in kind or "document" in kind or "file" in kind:
                images += 1
            elif kind in ("tool_use", "tool_call", "function_call"):
                texts.append(called(block))
                calls += 1
            else:
                inside = block.get("text", block.get("content", block.get("thinking", "")))
                more, extra, asked = texts_of(inside)
                texts, images, calls = texts + more, images + extra, calls + asked
    return texts, images, calls


def tools_of(tools: Any) -> list[Part]:
    """Return tool schemas as a prompt's first part; nothing for none."""
    if not isinstance(tools, list) or not tools:
        return []
    text = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return [Part("tools", text, sum(count(json.dumps(tool, ensure_ascii=False)) for tool in tools))]


def is_marked(message: Any) -> bool:
    """Say whether a message or a body has a cache breakpoint of Anthropic's."""
    if not isinstance(message, dict):
        return False
    for name in ("content", "system", "tools"):
        blocks = message.get(name)
        if isinstance(blocks, list) and any(
            isinstance(block, dict) and "cache_control" in block for block in blocks
        ):
            return True
    return False


_READ = ("cache_read_input_tokens", "cache_read.input_tokens", "cached_tokens")
_WRITE = (
    "cache_creation_input_tokens",
    "cache_write.input_tokens",
    "cache_creation.input_tokens",
    "cache_write_tokens",
)


def usage_of(usage: Mapping[str, Any]) -> tuple[int | None, int | None, Usage | None]:
    """Return a prompt's tokens, an answer's, and what was billed where the cache is told of."""
    details: dict[str, Any] = dict(usage)
    for name in ("prompt_tokens_details", "input_tokens_details", "input_token_details"):
        details.update(usage.get(name) or {})
    numbers = [value for value in details.values() if isinstance(value, int | float)]
    if any(value < 0 for value in numbers):
        raise Flaw(f"negative usage {dict(usage)!r}")
    prompt = first_of(usage, ("prompt_tokens", "input_tokens"))
    output = first_of(usage, ("completion_tokens", "output_tokens"))
    read = first_of(details, (*_READ, "cache_read"))
    if prompt is None:
        return None, output, None
    if read is None:
        return prompt, output, None
    write = first_of(details, (*_WRITE, "cache_creation")) or 0
    long = (
        int((usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0))
        if (isinstance(usage.get("cache_creation"), dict))
        else int(details.get("ephemeral_1h_input_tokens", 0))
    )
    short = max(0, write - long)
    apart = "cache_read_input_tokens" in usage  # Anthropic's own: input is the uncached rest
    fresh = prompt if apart else prompt - read - short - long
    if fresh < 0:
        raise Flaw(f"usage {dict(usage)!r} has more cached tokens than prompt tokens")
    used = Usage(fresh, read, short, long, output or 0)
    return used.input, output, used


def first_of(values: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """Return the first of these numbers that is there."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return None


def time_of(value: Any) -> float | None:
    """Return seconds since 1970 of a number (s, ms or ns) or of ISO text."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        while number > 1e11:
            number /= 1_000
        return number
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None


_VENDORS = (
    (re.compile(r"(?:us\.|eu\.)?(?:anthropic[./])?(claude.*)"), "anthropic"),
    (re.compile(r"(?:openai[./])?((?:chat)?gpt-\d.*|o\d(?:-.*)?)"), "openai"),
)


def model_of(value: Mapping[str, Any]) -> str:
    """Return the model that a record names, as VENDOR:NAME ("" for none)."""
    model = value.get("model") or value.get("agent_llm")
    return named("", model) if isinstance(model, str) else ""


def named(vendor: str, name: str) -> str:
    """Return a model as VENDOR:NAME."""
    if not name or name.startswith(("anthropic:", "openai:", "openai-compatible:")):
        return name
    for pattern, owner in _VENDORS:
        match = pattern.fullmatch(name)
        if match:
            return f"{owner}:{match[1]}"
    return f"openai-compatible:{name}"
