"""What Anthropic checks in a conversation: its turns, their blocks, and calls with results."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from agentmesh.emulator.brain import Role
from agentmesh.emulator.refusal import Refusal, tool_name, unknown_fields
from agentmesh.emulator.wire import signature

INLINE_TOOLS = "inline-tools-2026-09-15"
TOOL_CHANGES = "mid-conversation-tool-changes-2026-07-01"
"""The betas under which a system message changes the tools; by the second, by reference alone."""

_BLOCK_FIELDS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "cache_control", "title", "context", "citations"}),
    "tool_addition": frozenset({"type", "tool", "cache_control"}),
    "tool_removal": frozenset({"type", "tool", "cache_control"}),
}
_CHANGES = frozenset(("tool_addition", "tool_removal"))
_MESSAGE_FIELDS = frozenset(("role", "content"))
_ROLE_TYPES = {
    "user": ("text", "tool_result", "image", "document"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "system": ("text", "tool_addition", "tool_removal"),
}
_NO_PREFILL = re.compile(r"claude-(?:opus-4-[6-9]|sonnet-4-6|\w+-[5-9]).*")
_SYSTEM_TURNS = re.compile(
    r"claude-(?:(?:fable|mythos)-5.*|opus-(?:4-8|5).*|sonnet-5-5.*|haiku-5-5.*)"
)


class Turn(NamedTuple):
    """All that one role says in a row; `paths` tells where each block stands in the request."""

    role: Role
    blocks: list[dict[str, Any]]
    paths: list[str]


def read_turns(model: str, messages: list[Any], betas: frozenset[str] = frozenset()) -> list[Turn]:
    """Return the turns, checked; messages of one role in a row are one turn."""
    known = _BLOCK_FIELDS.keys() - (
        frozenset() if betas & {INLINE_TOOLS, TOOL_CHANGES} else _CHANGES
    )
    if not messages:
        raise Refusal("messages: at least one message is required")
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        path = f"messages.{index}"
        if not isinstance(message, dict):
            raise Refusal(f"{path}: Input should be a valid dictionary")
        for field in unknown_fields(message, _MESSAGE_FIELDS):
            raise Refusal(f"{path}.{field}: Extra inputs are not permitted")
        role = need(message, "role", str, f"{path}.role")
        if role == "system":
            _check_system(model, turns, path)
        elif role not in ("user", "assistant"):
            raise Refusal(f"{path}.role: Input should be 'user' or 'assistant'")
        if role == "user" and turns and turns[-1].role == "system":
            raise _misplaced(
                f"messages.{index - 1}", "precede an 'assistant' message or end the array"
            )
        if index == 0 and role != "user":
            raise Refusal('messages: first message must use the "user" role')
        blocks = _blocks(model, message, path, role, known, last=index == len(messages) - 1)
        paths = [f"{path}.content.{number}" for number in range(len(blocks))]
        if turns and turns[-1].role == role:
            turns[-1].blocks.extend(blocks)
            turns[-1].paths.extend(paths)
        else:
            turns.append(Turn(role, list(blocks), paths))
    if turns[-1].role == "assistant":
        _check_prefill(model, turns[-1].blocks)
    _check_calls(turns)
    return turns


def _check_system(model: str, turns: list[Turn], path: str) -> None:
    if not _SYSTEM_TURNS.fullmatch(model):
        raise Refusal(
            f"{path}.role: Input should be 'user' or 'assistant'; this model takes "
            "instructions in the top-level `system` parameter alone"
        )
    if not turns or turns[-1].role == "assistant":
        where = "follow a 'user' message or an 'assistant' message ending in a server tool result"
        raise _misplaced(path, where)


def _misplaced(path: str, where: str) -> Refusal:
    return Refusal(
        f"{path}: role 'system' must {where}; the directive-only form (content: [] with "
        "output_config) is accepted at any position"
    )


def _check_prefill(model: str, content: list[dict[str, Any]]) -> None:
    if _NO_PREFILL.fullmatch(model):
        raise Refusal(
            "This model does not support assistant message prefill. The conversation must "
            "end with a user message."
        )
    last = content[-1] if content else {}
    if last.get("type") == "text" and last["text"] != last["text"].rstrip():
        raise Refusal("messages: final assistant content cannot end with trailing whitespace")


def _blocks(
    model: str,
    message: dict[str, Any],
    path: str,
    role: str,
    known: AbstractSet[str],
    *,
    last: bool,
) -> list[dict[str, Any]]:
    content = message.get("content")
    if "content" not in message:
        raise Refusal(f"{path}.content: Field required")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        raise Refusal(f"{path}.content: Input should be a valid string or list")
    if not content and not (last and role == "assistant"):
        raise Refusal(
            f"{path}: all messages must have non-empty content except for the optional "
            "final assistant message"
        )
    for index, block in enumerate(content):
        _check_block(model, block, f"{path}.content.{index}", role, known)
    return content


def _check_block(model: str, block: Any, path: str, role: str, known: AbstractSet[str]) -> None:
    if not isinstance(block, dict):
        raise Refusal(f"{path}: Input should be a valid dictionary")
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in known:
        tags = ", ".join(f"'{tag}'" for tag in _BLOCK_FIELDS if tag in known)
        raise Refusal(
            f"{path}: Input tag '{kind}' found using 'type' does not match any of the "
            f"expected tags: {tags}"
        )
    if kind not in _ROLE_TYPES[role]:
        raise Refusal(f"{path}: `{kind}` blocks are not permitted in `{role}` messages")
    if kind == "text":
        check_text(block, path, "messages")
        return
    for field in unknown_fields(block, _BLOCK_FIELDS[kind]):
        raise Refusal(f"{path}.{kind}.{field}: Extra inputs are not permitted")
    if kind == "tool_use":
        if not tool_name(r"[a-zA-Z0-9_-]+", need(block, "id", str, f"{path}.tool_use.id")):
            raise Refusal(f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not tool_name(
            r"[a-zA-Z0-9_-]{1,200}", need(block, "name", str, f"{path}.tool_use.name")
        ):
            raise Refusal(
                f"{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'"
            )
        need(block, "input", dict, f"{path}.tool_use.input")
    elif kind == "tool_result":
        need(block, "tool_use_id", str, f"{path}.tool_result.tool_use_id")
        optional(block, "is_error", bool, f"{path}.tool_result.is_error")
    elif kind == "thinking":
        text = need(block, "thinking", str, f"{path}.thinking.thinking")
        sealed = need(block, "signature", str, f"{path}.thinking.signature")
        if sealed != signature(model, text):
            raise Refusal(f"{path}: Invalid `signature` in `thinking` block")


def check_text(block: Any, path: str, where: str) -> str:
    """Return the text of a text block that may stand in `where`."""
    if not isinstance(block, dict):
        raise Refusal(f"{path}: Input should be a valid dictionary")
    if block.get("type") != "text":
        raise Refusal(f"{path}.type: Input should be 'text'")
    for field in unknown_fields(block, _BLOCK_FIELDS["text"]):
        raise Refusal(f"{path}.text.{field}: Extra inputs are not permitted")
    text: str = need(block, "text", str, f"{path}.text.text")
    if not text and block.get("cache_control"):
        raise Refusal(f"{path}.text: cache_control cannot be set for empty text blocks")
    if not text:
        raise Refusal(f"{where}: text content blocks must be non-empty")
    if not text.strip():
        raise Refusal(f"{where}: text content blocks must contain non-whitespace text")
    return text


def _check_calls(turns: list[Turn]) -> None:
    """Check that every tool_use is answered in the next turn, first thing, and only there."""
    ids: set[str] = set()
    open_: set[str] = set()
    for index, turn in enumerate(turns):
        asked = [block["id"] for block in turn.blocks if block["type"] == "tool_use"]
        if len(set(asked) - ids) < len(asked):
            raise Refusal("messages: `tool_use` ids must be unique")
        ids.update(asked)
        if asked:
            _check_answered(turns, index, asked)
        for block, path in zip(turn.blocks, turn.paths, strict=True):
            if block["type"] != "tool_result":
                continue
            if block["tool_use_id"] not in open_:
                raise Refusal(
                    f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding "
                    "`tool_use` block in the previous message."
                )
            open_.discard(block["tool_use_id"])
        open_ = set(asked)


def _check_answered(turns: list[Turn], index: int, asked: list[str]) -> None:
    following = turns[index + 1].blocks if index + 1 < len(turns) else []
    leading = []
    for block in following:
        if block["type"] != "tool_result":
            break
        leading.append(block["tool_use_id"])
    missing = [id_ for id_ in asked if id_ not in leading]
    if missing:
        raise Refusal(
            f"messages.{index}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(missing)}. Each `tool_use` block must have a "
            "corresponding `tool_result` block in the next message."
        )


_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    list: "list",
    dict: "dictionary",
}


def need(raw: dict[str, Any], name: str, kind: type, path: str) -> Any:
    """Return the required field `name` of `raw`."""
    if name not in raw:
        raise Refusal(f"{path}: Field required")
    value = raw[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refusal(f"{path}: Input should be a valid {_TYPES[kind]}")
    return value


def optional(raw: dict[str, Any], name: str, kind: type, path: str = "") -> None:
    """Check the type of the field `name` of `raw`, if it is there."""
    if raw.get(name) is not None:
        need(raw, name, kind, path or name)
