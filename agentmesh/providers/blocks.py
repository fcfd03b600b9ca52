"""The log's blocks and langchain's messages, one into the other, with nothing lost.

An answer's content is a list of langchain's standard blocks (output version `v1`). What they
cannot hold travels in a block's `extras`: the exact text of a call's arguments (`arguments`), and
a vendor's own block (`data`) with the model that it is bound to (`model`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage

from agentmesh import canonical

Block = dict[str, Any]

VERSION = {"output_version": "v1"}
"""What marks a message's content as standard blocks."""

_OWN_TEXT = {"text", "refusal"}
_STRINGS = {"text", "id", "name", "arguments", "phase"}
_ARGUMENTS = ("partial_json", "arguments", "args", "input")
_CALLS = {"tool_call", "tool_call_chunk", "tool_use", "function_call", "invalid_tool_call"}


def string(value: Any) -> str:
    """Return `value`, which must be a string: vendors' text is not taken on trust."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} stands where text should")
    return value


def compact(value: Any) -> str:
    """Return `value` as JSON in the order that it arrived in, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Return the object that a call's arguments spell, or None where they spell none."""
    try:
        value: Any = json.loads(text or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = _without_surrogates(value) if "\\ud" in text.lower() else value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return canonical.clean(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {canonical.clean(key): _without_surrogates(item) for key, item in value.items()}
    return value


def reasoning_text(data: Block) -> str:
    """Return what a vendor's own block shows of the model's reasoning ("" for none)."""
    if isinstance(data.get("summary"), list):
        return "\n\n".join(str(part.get("text", "")) for part in data["summary"])
    return str(data.get("thinking") or data.get("text") or "")


def to_content(blocks: Iterable[Block]) -> list[str | dict[Any, Any]]:
    """Return the log's blocks of an answer as standard content blocks."""
    return [_to_standard(block) for block in blocks]


def _to_standard(block: Block) -> dict[Any, Any]:
    kind = block["type"]
    if kind == "call":
        args = parse_arguments(block["arguments"])
        standard: Block = {
            "type": "invalid_tool_call" if args is None else "tool_call",
            "id": block["id"],
            "name": block["name"],
            "args": block["arguments"] if args is None else args,
            "extras": {"arguments": block["arguments"]},
        }
    elif kind == "opaque":
        standard = {
            "type": "reasoning",
            "reasoning": reasoning_text(block["data"]),
            "extras": {"model": block["model"], "data": block["data"]},
        }
    elif kind == "reasoning":  # shown to people, and to no model
        standard = {
            "type": "reasoning",
            "reasoning": block["text"],
            "extras": {"model": block["model"]},
        }
    elif kind == "refusal":
        standard = {"type": "refusal", "refusal": block["text"]}
    else:
        standard = {"type": "text", "text": block["text"]}
        if "phase" in block:
            standard["extras"] = {"phase": block["phase"]}
    if "mark" in block:
        standard["mark"] = block["mark"]
    return standard


def to_answer(blocks: Iterable[Block], **fields: Any) -> AIMessage:
    """Return the message of an answer; a call whose arguments are no object is an invalid one."""
    blocks = list(blocks)
    calls, invalid = [], []
    for block in blocks:
        for field in _STRINGS & block.keys():
            string(block[field])
        if block["type"] != "call":
            continue
        args = parse_arguments(block["arguments"])
        if args is None:
            invalid.append(
                {
                    "name": block["name"],
                    "args": block["arguments"],
                    "id": block["id"],
                    "error": "the arguments are not a JSON object",
                }
            )
        else:
            calls.append({"name": block["name"], "args": args, "id": block["id"]})
    metadata = {**VERSION, **fields.pop("response_metadata", {})}
    return AIMessage(
        content=to_content(blocks),
        tool_calls=calls,
        invalid_tool_calls=invalid,
        response_metadata=metadata,
        **fields,
    )


def to_blocks(message: AIMessage, model: str) -> list[Block]:
    """Return an answer of `model` as the blocks that a log stores.

    Works for our models and for any other chat model of langchain. Blank text is left out, since
    no vendor takes it back; a refusal is text here, and `stop_of` names it.

    >>> to_blocks(AIMessage("Hello"), "anthropic:claude-opus-5-5")
    [{'type': 'text', 'text': 'Hello'}]
    """
    blocks = []
    for block in read(message, maker=model):
        block.pop("mark", None)
        if block["type"] == "refusal":
            block = {"type": "text", "text": block["text"]}
        if block["type"] != "text" or block["text"].strip():
            blocks.append(block)
    return blocks


def read(message: AIMessage, *, maker: str = "") -> list[Block]:
    """Return an answer's blocks with their marks; unnamed vendor blocks are bound to `maker`.

    Without a maker they are left out: nobody knows which model may see them.
    """
    content = message.content if isinstance(message.content, list) else [message.content]
    blocks = [block for part in content if (block := _from_standard(part, maker)) is not None]
    ids = {block["id"] for block in blocks if block["type"] == "call"}
    for call in [*message.tool_calls, *message.invalid_tool_calls]:
        if (call["id"] or "") not in ids:
            blocks.append(_call(call["id"], call["name"], call["args"]))
    return blocks


def _from_standard(part: str | dict[Any, Any], maker: str) -> Block | None:
    if isinstance(part, str):
        return {"type": "text", "text": canonical.clean(part)} if part else None
    kind, extras = part.get("type"), part.get("extras") or {}
    block: Block | None
    if kind in _OWN_TEXT:
        block = {"type": kind, "text": canonical.clean(part.get(str(kind)) or "")}
        if "phase" in extras:
            block["phase"] = extras["phase"]
    elif kind in _CALLS:
        given: tuple[Any, ...] = (
            extras.get("arguments"),
            *(part.get(name) for name in _ARGUMENTS),
            {},
        )
        arguments = next(value for value in given if value is not None)
        block = _call(part.get("call_id") or part.get("id"), part.get("name"), arguments)
    elif "model" in extras:
        block = _opaque(extras["model"], extras["data"]) if "data" in extras else None
    elif maker and kind != "input_json_delta":
        block = _opaque(maker, {key: value for key, value in part.items() if key != "index"})
    else:
        block = None
    if block is not None and "mark" in part:
        block["mark"] = part["mark"]
    return block


def _call(call_id: Any, name: Any, arguments: Any) -> Block:
    text = arguments if isinstance(arguments, str) else compact(arguments)
    return {
        "type": "call",
        "id": str(call_id or ""),
        "name": str(name or ""),
        "arguments": canonical.clean(text) or "{}",
    }


def _opaque(model: str, data: Block) -> Block:
    return {"type": "opaque", "model": model, "data": data}
