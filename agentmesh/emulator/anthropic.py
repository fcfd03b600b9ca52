"""Anthropic's Messages API: its checks, its cache marks, its responses and events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from agentmesh.economy.semantics import semantics
from agentmesh.emulator.brain import Api, Call, Message, Request
from agentmesh.emulator.refusal import Refusal, object_schema, tool_name, unknown_fields, words
from agentmesh.emulator.wire import (
    IMAGE_TOKENS,
    BlockBuilder,
    Event,
    Parsed,
    Reply,
    chunks,
    compact,
    signature,
)
from agentmesh.prompt import Ttl

_FIELDS = words(
    "model messages max_tokens cache_control container diagnostics inference_geo metadata "
    "output_config service_tier speed stop_sequences stream system temperature thinking "
    "tool_choice tools top_k top_p user_profile_id context_management"
)
_BLOCK_FIELDS = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control", "caller"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "cache_control", "title", "context", "citations"}),
}
_CONTROL_FIELDS = frozenset(("type", "ttl"))
_MESSAGE_FIELDS = frozenset(("role", "content"))
_ROLE_TYPES = {
    "user": ("text", "tool_result", "image", "document"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "system": ("text",),
}
_TOOL_FIELDS = words(
    "name description input_schema type cache_control strict defer_loading input_examples "
    "allowed_callers eager_input_streaming"
)
_NO_PREFILL = re.compile(r"claude-(?:opus-4-[6-9]|sonnet-4-6|\w+-[5-9]).*")
_NO_SAMPLING = re.compile(r"claude-(?:opus-4-[789]|\w+-[5-9]).*")
_SYSTEM_TURNS = re.compile(
    r"claude-(?:(?:fable|mythos)-5.*|opus-(?:4-8|5).*|sonnet-5-5.*|haiku-5-5.*)"
)
_STOPS = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}


class Messages:
    """The dialect of `POST /v1/messages`."""

    api: Api = "messages"
    call_prefix = "toolu_"
    id_prefix = "msg_"

    def parse(self, raw: dict[str, Any], key: str) -> Parsed:
        """Return the request, or raise the refusal that Anthropic would answer with."""
        return _Reader(raw, key).read()

    def body(self, reply: Reply) -> dict[str, Any]:
        """Return the message."""
        return {
            **_head(reply),
            "content": [_block(reply, part) for part in _parts(reply)],
            "stop_reason": _STOPS[reply.stop],
            "stop_sequence": None,
            "stop_details": _stop_details(reply),
            "usage": _usage(reply, reply.usage.output),
            **reply.extra,
        }

    def events(self, reply: Reply) -> Iterator[Event]:
        """Yield message_start, each content block, message_delta and message_stop."""
        start = {**_head(reply), "content": [], "stop_reason": None, "stop_sequence": None}
        start |= {"usage": _usage(reply, 1), **reply.extra}
        yield Event("message_start", {"type": "message_start", "message": start})
        for index, part in enumerate(_parts(reply)):
            yield from _block_events(reply, index, part)
        yield Event(
            "message_delta",
            {
                "type": "message_delta",
                "delta": {
                    "stop_reason": _STOPS[reply.stop],
                    "stop_sequence": None,
                    "stop_details": _stop_details(reply),
                },
                "usage": {
                    name: value
                    for name, value in _usage(reply, reply.usage.output).items()
                    if name not in ("cache_creation", "service_tier")
                },
            },
        )
        yield Event("message_stop", {"type": "message_stop"})

    def error(self, refusal: Refusal, request_id: str) -> dict[str, Any]:
        """Return Anthropic's error object."""
        return {
            "type": "error",
            "error": {"type": refusal.kind, "message": refusal.message},
            "request_id": request_id,
        }

    def error_event(self, refusal: Refusal) -> Event:
        """Return the `error` event."""
        body = {"type": "error", "error": {"type": refusal.kind, "message": refusal.message}}
        return Event("error", body)

    def encode(self, event: Event) -> bytes:
        """Return the event with its name."""
        return f"event: {event.name}\ndata: {compact(event.body)}\n\n".encode()

    def overflow(self, tokens: int, window: int) -> Refusal:
        """Return the refusal of a prompt that is too long."""
        return Refusal(f"prompt is too long: {tokens} tokens > {window} maximum")


def _head(reply: Reply) -> dict[str, Any]:
    return {"id": reply.id, "type": "message", "role": "assistant", "model": reply.model}


def _stop_details(reply: Reply) -> dict[str, Any] | None:
    if reply.stop != "refusal":
        return None
    return {"type": "refusal", "category": None, "explanation": reply.text or None}


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    used = reply.usage
    return {
        "input_tokens": used.fresh,
        "cache_creation_input_tokens": used.write + used.write_long,
        "cache_read_input_tokens": used.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.write,
            "ephemeral_1h_input_tokens": used.write_long,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": used.reasoning},
        "service_tier": "standard",
    }


def _parts(reply: Reply) -> Iterator[str | Call | tuple[str]]:
    """Yield what the content holds: reasoning as a tuple of one, then text, then calls."""
    if reply.reasoning:
        yield (reply.reasoning,)
    if reply.text:
        yield reply.text
    yield from reply.calls


def _block(reply: Reply, part: str | Call | tuple[str]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part, "citations": None}
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}
    return {"type": "thinking", "thinking": part[0], "signature": signature(reply.model, part[0])}


def _input(call: Call) -> dict[str, Any]:
    """Return a call's arguments; those that were cut short are lost, as they are at Anthropic."""
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _block_events(reply: Reply, index: int, part: str | Call | tuple[str]) -> Iterator[Event]:
    empty: dict[str, Any]
    if isinstance(part, str):
        empty = {"type": "text", "text": "", "citations": None}
        deltas = [({"type": "text_delta", "text": text}, text) for text in chunks(part)]
    elif isinstance(part, Call):
        empty = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
        deltas = [
            ({"type": "input_json_delta", "partial_json": text}, text)
            for text in ("", *chunks(part.arguments))
        ]
    else:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [({"type": "thinking_delta", "thinking": t}, t) for t in chunks(part[0])]
        sealed = {"type": "signature_delta", "signature": signature(reply.model, part[0])}
        deltas.append((sealed, ""))
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    yield Event("content_block_start", start, part.name if isinstance(part, Call) else "")
    for delta, text in deltas:
        body = {"type": "content_block_delta", "index": index, "delta": delta}
        yield Event("content_block_delta", body, text)
    yield Event("content_block_stop", {"type": "content_block_stop", "index": index})


class _Reader:
    """Reads one request in Anthropic's order: tools, system, messages."""

    def __init__(self, raw: dict[str, Any], key: str) -> None:
        self._raw = raw
        self._key = key
        self._marks: list[Ttl] = []

    def read(self) -> Parsed:
        raw = self._raw
        for name in unknown_fields(raw, _FIELDS):
            raise Refusal(f"{name}: Extra inputs are not permitted")
        model = _need(raw, "model", str, "model")
        if not model:
            raise Refusal("model: String should have at least 1 character")
        self._model = model
        rules = semantics(f"anthropic:{model}")
        self._builder = BlockBuilder(rules.granularity)
        limit = self._limits()
        automatic = raw.get("cache_control")
        tools = self._tools()
        system = self._system()
        messages = self._messages(_need(raw, "messages", list, "messages"))
        if automatic is not None:
            self._automatic(automatic)
        if len(self._marks) > 4:
            raise Refusal(
                "A maximum of 4 blocks with cache_control may be provided. "
                f"Found {len(self._marks)}."
            )
        request = Request("messages", model, system, messages, tools, limit, self._key, raw)
        return Parsed(
            request,
            f"anthropic:{model}",
            self._builder.blocks,
            None,
            bool(raw.get("stream", False)),
            silent=limit == 0,
        )

    def _limits(self) -> int:
        raw = self._raw
        limit: int = _need(raw, "max_tokens", int, "max_tokens")
        if limit < 0:
            raise Refusal("max_tokens: Input should be greater than or equal to 0")
        _optional(raw, "stream", bool)
        choice = raw.get("tool_choice")
        if choice is not None:
            self._choice(choice)
        if limit == 0:
            forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
            output = raw.get("output_config") or {}
            if raw.get("stream") or forced or (isinstance(output, dict) and output.get("format")):
                raise Refusal(
                    "max_tokens: 0 is not supported with stream, a forced tool_choice or "
                    "structured outputs"
                )
        for name in ("temperature", "top_p", "top_k"):
            value = raw.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refusal(f"{name}: Input should be a valid number")
            if name != "top_k" and not 0 <= value <= 1:
                raise Refusal(f"{name}: range: 0..1")
            if _NO_SAMPLING.fullmatch(self._model) and value != 1:
                raise Refusal(f"{name}: not supported for this model")
        thinking = raw.get("thinking")
        if thinking is not None:
            kind = thinking.get("type") if isinstance(thinking, dict) else None
            if kind not in ("adaptive", "between_tools", "disabled", "enabled"):
                raise Refusal(
                    "thinking: Input tag does not match any of the expected tags: "
                    "'adaptive', 'between_tools', 'disabled', 'enabled'"
                )
            if kind == "enabled":
                budget = thinking.get("budget_tokens")
                if not isinstance(budget, int) or budget < 1024:
                    raise Refusal(
                        "thinking.enabled.budget_tokens: Input should be greater than or "
                        "equal to 1024"
                    )
                if budget >= limit:
                    raise Refusal("`max_tokens` must be greater than `thinking.budget_tokens`.")
        return limit

    def _choice(self, choice: Any) -> None:
        kind = choice.get("type") if isinstance(choice, dict) else None
        if kind not in ("auto", "any", "tool", "none"):
            raise Refusal(
                "tool_choice: Input tag does not match any of the expected tags: "
                "'auto', 'any', 'tool', 'none'"
            )
        names = [
            tool.get("name") for tool in self._raw.get("tools") or [] if isinstance(tool, dict)
        ]
        if not names:
            raise Refusal("tool_choice may only be specified while providing tools.")
        if kind == "tool" and choice.get("name") not in names:
            raise Refusal(f"Tool '{choice.get('name')}' not found in provided tools")

    def _tools(self) -> tuple[dict[str, Any], ...]:
        tools = self._raw.get("tools") or []
        if not isinstance(tools, list):
            raise Refusal("tools: Input should be a valid list")
        names = set()
        for index, tool in enumerate(tools):
            path = f"tools.{index}"
            if not isinstance(tool, dict):
                raise Refusal(f"{path}: Input should be a valid dictionary")
            if tool.get("type", "custom") not in ("custom", None):
                raise Refusal(f"{path}: server tool {tool['type']!r} is not emulated")
            for field in unknown_fields(tool, _TOOL_FIELDS):
                raise Refusal(f"{path}.custom.{field}: Extra inputs are not permitted")
            if not tool_name(
                r"[a-zA-Z0-9_-]{1,128}", _need(tool, "name", str, f"{path}.custom.name")
            ):
                raise Refusal(
                    f"{path}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
                )
            if tool["name"] in names:
                raise Refusal("tools: Tool names must be unique.")
            names.add(tool["name"])
            _optional(tool, "description", str, f"{path}.custom.description")
            if not isinstance(tool.get("input_schema"), dict):
                raise Refusal(f"{path}.custom.input_schema: Field required")
            if tool["input_schema"].get("type") != "object":
                raise Refusal(f"{path}.custom.input_schema.type: Input should be 'object'")
            if not object_schema(tool["input_schema"]):
                raise Refusal(
                    f"{path}.custom.input_schema: JSON schema is invalid. It must match JSON "
                    "Schema draft 2020-12"
                )
            rest = {
                k: v
                for k, v in tool.items()
                if k not in ("cache_control", "name", "description", "input_schema", "type")
            }
            text = tool["name"] + (tool.get("description") or "") + compact(tool["input_schema"])
            kind = f"tool {compact(rest)}" if rest else "tool"
            self._builder.add(kind, text, mark=self._mark(tool, path))
        return tuple(tools)

    def _mark(self, block: dict[str, Any], path: str) -> Ttl | None:
        control = block.get("cache_control")
        if control is None:
            return None
        return self._control(control, f"{path}.cache_control")

    def _control(self, control: Any, path: str) -> Ttl:
        if not isinstance(control, dict) or control.get("type") != "ephemeral":
            raise Refusal(f"{path}.type: Input should be 'ephemeral'")
        for field in unknown_fields(control, _CONTROL_FIELDS):
            raise Refusal(f"{path}.{field}: Extra inputs are not permitted")
        ttl = control.get("ttl", "5m")
        if ttl not in ("5m", "1h"):
            raise Refusal(f"{path}.ttl: Input should be '5m' or '1h'")
        mark: Ttl = "long" if ttl == "1h" else "short"
        if mark == "long" and "short" in self._marks:
            raise Refusal(
                f"{path}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: "
                "`tools`, `system`, `messages`."
            )
        self._marks.append(mark)
        return mark

    def _automatic(self, control: Any) -> None:
        """Put the moving breakpoint of a top-level `cache_control` on the last block."""
        blocks = self._builder.blocks
        mark = self._control(control, "cache_control")
        if blocks[-1].mark is None:
            blocks[-1] = blocks[-1]._replace(mark=mark)
        else:
            self._marks.pop()

    def _system(self) -> str:
        system = self._raw.get("system")
        if system is None or system == "":
            return ""
        if isinstance(system, str):
            self._builder.add("system", system)
            return system
        if not isinstance(system, list):
            raise Refusal("system: Input should be a valid string or list")
        texts = []
        for index, block in enumerate(system):
            path = f"system.{index}"
            text = self._text(block, path, "system")
            self._builder.add("system", text, mark=self._mark(block, path))
            texts.append(text)
        return "\n".join(texts)

    def _text(self, block: Any, path: str, where: str) -> str:
        if not isinstance(block, dict):
            raise Refusal(f"{path}: Input should be a valid dictionary")
        if block.get("type") != "text":
            raise Refusal(f"{path}.type: Input should be 'text'")
        for field in unknown_fields(block, _BLOCK_FIELDS["text"]):
            raise Refusal(f"{path}.text.{field}: Extra inputs are not permitted")
        text: str = _need(block, "text", str, f"{path}.text.text")
        if not text and block.get("cache_control"):
            raise Refusal(f"{path}.text: cache_control cannot be set for empty text blocks")
        if not text:
            raise Refusal(f"{where}: text content blocks must be non-empty")
        if not text.strip():
            raise Refusal(f"{where}: text content blocks must contain non-whitespace text")
        return text

    def _messages(self, messages: list[Any]) -> tuple[Message, ...]:
        if not messages:
            raise Refusal("messages: at least one message is required")
        seen: list[Message] = []
        turns = self._turns(messages)
        self._pairs(turns)
        raw = self._raw
        settings = compact(
            [raw.get("tool_choice"), raw.get("thinking"), (raw.get("output_config") or {})]
        )
        for number, (role, content, paths) in enumerate(turns):
            head = f"{role} {settings}" if number == 0 else role
            texts: list[str] = []
            calls: list[Call] = []
            for block, path in zip(content, paths, strict=True):
                kind = block["type"]
                mark = self._mark(block, path)
                if kind == "text":
                    texts.append(block["text"])
                    self._builder.add(f"{head} text", block["text"], mark=mark)
                elif kind == "tool_use":
                    call = Call(block["id"], block["name"], compact(block["input"]))
                    calls.append(call)
                    self._builder.add(
                        f"{head} call {call.id}", call.name + call.arguments, mark=mark, run=kind
                    )
                elif kind == "tool_result":
                    text = _result_text(block, path)
                    name = f"{head} result {block['tool_use_id']} {bool(block.get('is_error'))}"
                    self._builder.add(name, text, mark=mark, run=kind)
                    seen.append(Message("tool", text, call_id=block["tool_use_id"], parts=(text,)))
                elif kind == "thinking":
                    self._builder.add(f"{head} thinking", block["thinking"])
                else:
                    self._builder.add(f"{head} {kind}", compact(block), tokens=IMAGE_TOKENS)
                head = role
            if texts or calls:
                seen.append(
                    Message(
                        "system" if role == "system" else "user" if role == "user" else "assistant",
                        "\n".join(texts),
                        tuple(calls),
                        parts=tuple(texts),
                    )
                )
        return tuple(seen)

    def _turns(self, messages: list[Any]) -> list[tuple[str, list[dict[str, Any]], list[str]]]:
        """Return the checked turns; messages of one role in a row are one turn."""
        turns: list[tuple[str, list[dict[str, Any]], list[str]]] = []
        for index, message in enumerate(messages):
            path = f"messages.{index}"
            if not isinstance(message, dict):
                raise Refusal(f"{path}: Input should be a valid dictionary")
            for field in unknown_fields(message, _MESSAGE_FIELDS):
                raise Refusal(f"{path}.{field}: Extra inputs are not permitted")
            role = _need(message, "role", str, f"{path}.role")
            if role == "system":
                self._system_turn(turns, path)
            elif role not in ("user", "assistant"):
                raise Refusal(f"{path}.role: Input should be 'user' or 'assistant'")
            if index == 0 and role != "user":
                raise Refusal('messages: first message must use the "user" role')
            last = index == len(messages) - 1
            content = self._content(message, path, role, last)
            paths = [f"{path}.content.{number}" for number in range(len(content))]
            if turns and turns[-1][0] == role:
                turns[-1][1].extend(content)
                turns[-1][2].extend(paths)
            else:
                turns.append((role, list(content), paths))
        if turns[-1][0] == "assistant":
            self._prefill(turns[-1][1])
        return turns

    def _system_turn(self, turns: list[Any], path: str) -> None:
        if not _SYSTEM_TURNS.fullmatch(self._model):
            raise Refusal(
                f"{path}.role: Input should be 'user' or 'assistant'; this model takes "
                "instructions in the top-level `system` parameter alone"
            )
        if not turns or turns[-1][0] != "user":
            raise Refusal(f"{path}: a system message must follow a user turn")

    def _prefill(self, content: list[dict[str, Any]]) -> None:
        if _NO_PREFILL.fullmatch(self._model):
            raise Refusal(
                "This model does not support assistant message prefill. The conversation must "
                "end with a user message."
            )
        last = content[-1] if content else {}
        if last.get("type") == "text" and last["text"] != last["text"].rstrip():
            raise Refusal("messages: final assistant content cannot end with trailing whitespace")

    def _content(
        self, message: dict[str, Any], path: str, role: str, last: bool
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
            self._check_block(block, f"{path}.content.{index}", role)
        return content

    def _check_block(self, block: Any, path: str, role: str) -> None:
        if not isinstance(block, dict):
            raise Refusal(f"{path}: Input should be a valid dictionary")
        kind = block.get("type")
        if kind not in _BLOCK_FIELDS:
            tags = ", ".join(f"'{tag}'" for tag in _BLOCK_FIELDS)
            raise Refusal(
                f"{path}: Input tag '{kind}' found using 'type' does not match any of the "
                f"expected tags: {tags}"
            )
        if kind not in _ROLE_TYPES[role]:
            raise Refusal(f"{path}: `{kind}` blocks are not permitted in `{role}` messages")
        if kind == "text":
            self._text(block, path, "messages")
            return
        for field in unknown_fields(block, _BLOCK_FIELDS[kind]):
            raise Refusal(f"{path}.{kind}.{field}: Extra inputs are not permitted")
        if kind == "tool_use":
            if not tool_name(r"[a-zA-Z0-9_-]+", _need(block, "id", str, f"{path}.tool_use.id")):
                raise Refusal(f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            if not tool_name(
                r"[a-zA-Z0-9_-]{1,200}", _need(block, "name", str, f"{path}.tool_use.name")
            ):
                raise Refusal(
                    f"{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'"
                )
            _need(block, "input", dict, f"{path}.tool_use.input")
        elif kind == "tool_result":
            _need(block, "tool_use_id", str, f"{path}.tool_result.tool_use_id")
            _optional(block, "is_error", bool, f"{path}.tool_result.is_error")
        elif kind == "thinking":
            text = _need(block, "thinking", str, f"{path}.thinking.thinking")
            sealed = _need(block, "signature", str, f"{path}.thinking.signature")
            if sealed != signature(self._model, text):
                raise Refusal(f"{path}: Invalid `signature` in `thinking` block")

    def _pairs(self, turns: list[tuple[str, list[dict[str, Any]], list[str]]]) -> None:
        """Check that every tool_use is answered in the next turn, first thing, and only there."""
        ids: set[str] = set()
        for index, (role, content, paths) in enumerate(turns):
            if role == "assistant":
                asked = [block["id"] for block in content if block["type"] == "tool_use"]
                for id_ in asked:
                    if id_ in ids or asked.count(id_) > 1:
                        raise Refusal("messages: `tool_use` ids must be unique")
                ids.update(asked)
                if asked:
                    _answered(turns, index, asked)
                continue
            before = turns[index - 1][1] if index and turns[index - 1][0] == "assistant" else []
            open_ = {block["id"] for block in before if block["type"] == "tool_use"}
            for block, path in zip(content, paths, strict=True):
                if block["type"] != "tool_result":
                    continue
                id_ = block["tool_use_id"]
                if id_ not in open_:
                    raise Refusal(
                        f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {id_}. "
                        "Each `tool_result` block must have a corresponding `tool_use` block in "
                        "the previous message."
                    )
                open_.discard(id_)


def _answered(
    turns: list[tuple[str, list[dict[str, Any]], list[str]]], index: int, asked: list[str]
) -> None:
    following = turns[index + 1][1] if index + 1 < len(turns) else []
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


def _result_text(block: dict[str, Any], path: str) -> str:
    content = block.get("content", "")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Refusal(f"{path}.tool_result.content: Input should be a valid string or list")
    texts = []
    for index, part in enumerate(content):
        where = f"{path}.tool_result.content.{index}"
        if not isinstance(part, dict) or part.get("type") not in ("text", "image", "document"):
            raise Refusal(f"{where}: Input should be a text, image or document block")
        if part["type"] == "text":
            texts.append(_need(part, "text", str, f"{where}.text.text"))
    return "\n".join(texts)


_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    list: "list",
    dict: "dictionary",
}


def _need(raw: dict[str, Any], name: str, kind: type, path: str) -> Any:
    if name not in raw:
        raise Refusal(f"{path}: Field required")
    value = raw[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refusal(f"{path}: Input should be a valid {_TYPES[kind]}")
    return value


def _optional(raw: dict[str, Any], name: str, kind: type, path: str = "") -> None:
    if raw.get(name) is not None:
        _need(raw, name, kind, path or name)
