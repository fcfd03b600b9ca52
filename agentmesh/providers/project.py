"""A prompt as one model's messages: the same log, shown to each model in its own way.

The projection for a model only grows as the log grows, and hides what another model's vendor
bound to that model. Entries never change, so each is converted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.prompt import Prompt, ToolSpec, Ttl
from agentmesh.providers.blocks import Block, to_answer
from agentmesh.providers.wire import CHANGE, freeze
from agentmesh.toolview import KIND, Change, ToolView

CACHED_ENTRIES = 8192

_OURS = ("anthropic:", "openai:", "openai-compatible:")


def to_messages(prompt: Prompt, model: str) -> list[BaseMessage]:
    """Return `prompt` as messages for `model`, a model string; any other name is a foreign model.

    Our models get blocks with marks, foreign ones plain text. The messages are shared between
    calls: read them, do not change them. Tools go separately, see `to_tools`.
    """
    ours = model.startswith(_OURS)
    messages: list[BaseMessage] = []
    system: list[Block] = []
    for segment in prompt.segments:
        mark = prompt.marks.segments.get(segment.name) if ours else None
        if segment.text.strip():
            block: Block = {"type": "text", "text": segment.text}
            system.append({**block, "mark": mark} if mark else block)
        elif mark and system:
            system[-1].setdefault("mark", mark)
    if system:
        messages.append(SystemMessage(_content(system, ours)))
    messages.extend(_log(prompt, model, ours))
    if prompt.cache_key and messages and ours:
        first = {"additional_kwargs": {"cache_key": prompt.cache_key}}
        messages[0] = messages[0].model_copy(update=first)
    return messages


def _log(prompt: Prompt, model: str, ours: bool) -> Iterator[BaseMessage]:
    """Yield the log and the tail; a change of the tools stands before the answer that follows it.

    Between a call and its result no vendor takes one, nor Anthropic between two texts of a user.
    """
    marks = prompt.marks.entries if ours else {}
    tools = ToolView.of(prompt.tools, ())
    changes: list[BaseMessage] = []
    for entry in prompt.entries:
        if entry.kind == KIND:
            change, tools = tools.after(entry)
            changes += _change(change, ours)
            continue
        if entry.kind == "assistant" and changes:
            yield from changes
            changes = []
        yield from _entry(entry.kind, entry.body, model, marks.get(entry.seq), ours)
    if prompt.tail.strip():
        yield HumanMessage(_content([{"type": "text", "text": prompt.tail}], ours))
    yield from changes


def to_tools(prompt: Prompt, *, marks: bool = True) -> list[dict[str, Any]]:
    """Return a prompt's tools as function dicts for `bind_tools`, sorted by name.

    It is the list that the epoch froze: what has changed since is told by `to_messages`.
    A mark on `tools` is a `mark` on the last one, which our models alone understand: leave it
    out (`marks=False`) for a foreign model.
    """
    specs = sorted(prompt.tools, key=lambda spec: spec.name)
    tools = [{"type": "function", "function": _function(spec)} for spec in specs]
    mark = prompt.marks.segments.get("tools")
    if tools and mark and marks:
        tools[-1]["mark"] = mark
    return tools


def forget() -> None:
    """Drop every converted entry: after an erasure, nothing of it stays in this process."""
    _entry.cache_clear()
    _change.cache_clear()


@lru_cache(maxsize=1024)
def _function(spec: ToolSpec) -> dict[str, Any]:
    function = {"name": spec.name, "description": spec.description}
    return {**function, "parameters": canonical.loads(spec.parameters)}


@lru_cache(maxsize=1024)
def _change(change: Change, ours: bool) -> tuple[BaseMessage, ...]:
    """Return what tells of a change: to our models its fields, to any the words on what is gone."""
    if not (change.notice or (ours and change.added)):
        return ()
    fields = {
        "added": [_function(spec) for spec in change.added],
        "removed": list(change.removed),
    }
    told = HumanMessage(change.notice, additional_kwargs={CHANGE: fields} if ours else {})
    freeze(told)
    return (told,)


@lru_cache(maxsize=CACHED_ENTRIES)
def _entry(
    kind: str, body: str, model: str, mark: Ttl | None, ours: bool
) -> tuple[BaseMessage, ...]:
    blocks = [
        dict(block)
        for block in canonical.loads(body)["blocks"]
        if block["type"] != "opaque" or block["model"] == model
    ]
    blocks = [block for block in blocks if block["type"] != "text" or block["text"].strip()]
    if mark:
        markable = [block for block in blocks if block["type"] != "opaque"]
        if markable:
            markable[-1]["mark"] = mark
    if kind == "assistant":
        messages: list[BaseMessage] = [_assistant(blocks, ours)] if blocks else []
    else:
        messages = _messages(blocks, ours)
    for message in messages:
        freeze(message)
    return tuple(messages)


def _messages(blocks: list[Block], ours: bool) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    texts = [block for block in blocks if block["type"] == "text"]
    for block in blocks:
        if block["type"] == "result":
            text: Block = {"type": "text", "text": block["text"]}
            if "mark" in block:
                text["mark"] = block["mark"]
            messages.append(
                ToolMessage(
                    _content([text], ours),
                    tool_call_id=block["id"],
                    name=block["name"],
                    status="error" if block["error"] else "success",
                )
            )
        elif block["type"] != "text":
            raise InputError(
                f"a log entry holds a block of type {block['type']!r} where none can stand",
                hint="calls and opaque blocks stand in entries of the kind 'assistant'",
            )
    if texts:
        messages.append(HumanMessage(_content(texts, ours)))
    return messages


def _assistant(blocks: list[Block], ours: bool) -> AIMessage:
    if ours:
        return to_answer(blocks)
    plain = to_answer(block for block in blocks if block["type"] == "call")
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    bound = [block["data"] for block in blocks if block["type"] == "opaque"]
    content: Any = "\n\n".join(texts)
    if bound:
        content = [*bound, *({"type": "text", "text": text} for text in texts)]
    return AIMessage(
        content, tool_calls=plain.tool_calls, invalid_tool_calls=plain.invalid_tool_calls
    )


def _content(blocks: list[Block], ours: bool) -> Any:
    return blocks if ours else "\n\n".join(block["text"] for block in blocks)
