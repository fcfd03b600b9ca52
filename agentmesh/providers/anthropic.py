"""Claude through the Messages API."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from agentmesh.errors import InputError
from agentmesh.providers.blocks import Block, compact, parse_arguments, read, string, to_answer
from agentmesh.providers.chat import ChatModel, as_tools, schema_of
from agentmesh.providers.chunks import Reader, reasoning_chunk, text_chunk
from agentmesh.providers.failures import failure, told_failure
from agentmesh.providers.ids import CallIds
from agentmesh.providers.usage import from_anthropic
from agentmesh.providers.wire import EMPTY, change_of, mark_of, once, texts, unknown_message

INLINE_TOOLS = "inline-tools-2026-09-15"
"""The beta under which a message may define, redefine or withdraw a tool."""

OPENING = "(the conversation begins)"
"""Stands where a log starts with the assistant: the API wants the user to speak first."""

MAX_MARKS = 4

_CHANGING = re.compile(r"claude-(?:(?:fable|mythos)-5.*|opus-(?:4-8|5).*|sonnet-5-5.*|haiku-5-5.*)")
"""Models that take a system message, and with it a change of the tools, in mid-conversation."""

_CHOICES = {"auto": "auto", "any": "any", "required": "any", "none": "none", True: "any"}


class AnthropicModel(ChatModel):
    """A Claude model, on the `anthropic` SDK.

    A change of the tools is a system message of its own (`BetaRequestToolAdditionBlockParam` and
    `BetaRequestToolRemovalBlockParam` of the SDK; platform.claude.com, "Mid-conversation system
    messages and tool changes"): what stands before it stays cached. It follows the user's side and
    comes before the answer. A model that takes none reads in words what is no more, and is given
    what is new with the next epoch.

    >>> AnthropicModel(model="claude-opus-5-5", api_key="sk-...").model_name
    'anthropic:claude-opus-5-5'
    """

    vendor: ClassVar[str] = "anthropic"
    key_variable: ClassVar[str] = "ANTHROPIC_API_KEY"
    sdk: ClassVar[Literal["anthropic", "openai"]] = "anthropic"
    path: ClassVar[str] = "/v1/messages"
    reserved: ClassVar[frozenset[str]] = frozenset({"model", "messages", "system"})

    def body(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: Sequence[Any] = (),
        tool_choice: Any = None,
        stop: Sequence[str] | None = None,
        stream: bool = False,
        cache_key: str = "",
        withheld: Collection[str] = (),
        **extra: Any,
    ) -> dict[str, Any]:
        """Return the body of a Messages request; a `mark` becomes `cache_control`."""
        system, rest = _split(messages)
        parallel = extra.pop("parallel_tool_calls", None)
        body: dict[str, Any] = {"model": self.model, **self._fields(extra)}
        if stop:
            body["stop_sequences"] = list(stop)
        if tools:
            body["tools"] = [_tool(**tool) for tool in as_tools(tools)]
            if tool_choice is not None or parallel is False:
                body["tool_choice"] = _choice(tool_choice, parallel)
        if system:
            body["system"] = system
        changing = self.tool_changes and _CHANGING.fullmatch(self.model) is not None
        body["messages"] = _turns(rest, self.model_name, changing=changing)
        if stream:
            body["stream"] = True
        _check_marks(body)
        return body

    @staticmethod
    def _headers(own: Mapping[str, str], body: Mapping[str, Any]) -> Mapping[str, str]:
        if all(turn["role"] != "system" for turn in body.get("messages", ())):
            return own
        own = {name.lower(): value for name, value in own.items()}
        betas = [name for name in own.get("anthropic-beta", "").split(",") if name.strip()]
        return {**own, "anthropic-beta": ",".join(dict.fromkeys([*betas, INLINE_TOOLS]))}

    def _reader(self) -> Reader:
        return _AnthropicReader(self.model_name)

    def _parse(self, value: dict[str, Any], request_id: str) -> AIMessage:
        content = value.get("content")
        if value.get("type") == "error" and isinstance(value.get("error"), dict):
            raise told_failure(self.model_name, value["error"])
        if not isinstance(content, list):
            raise failure("api", self.model_name, "sent a message without content")
        metadata = _metadata(value)
        if request_id:
            metadata["request_id"] = request_id
        return to_answer(
            [_block(block, self.model_name) for block in content],
            usage_metadata=from_anthropic(value.get("usage") or {}),
            response_metadata=metadata,
        )


def _split(messages: Sequence[BaseMessage]) -> tuple[list[Block], Sequence[BaseMessage]]:
    count = 0
    while count < len(messages) and isinstance(messages[count], SystemMessage):
        count += 1
    system = [_text(block) for message in messages[:count] for block in texts(message)]
    return system, messages[count:]


def _turns(messages: Sequence[BaseMessage], model: str, *, changing: bool) -> list[dict[str, Any]]:
    ids = CallIds()
    turns: list[dict[str, Any]] = []
    key, make = ("anthropic", model, changing), partial(_blocks, model, changing)
    for message in messages:
        role, blocks = once(message, key, make)
        if not blocks:
            continue
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"] += [_with_id(block, ids) for block in blocks]
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    for turn in turns:
        if turn["role"] == "user" and len(turn["content"]) > 1:
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return turns


def _blocks(model: str, changing: bool, message: BaseMessage) -> tuple[str, list[Block]]:
    """Return a message's role and blocks; calls and results still bear the log's ids."""
    if changing and (change := change_of(message)) is not None:
        return "system", _changed(change)
    if isinstance(message, AIMessage):
        return "assistant", _assistant(message, model)
    if isinstance(message, ToolMessage):
        return "user", [_result(message)]
    if isinstance(message, (HumanMessage, SystemMessage)):
        return "user", [_text(block) for block in texts(message)]
    raise unknown_message(message)


def _changed(change: Mapping[str, Any]) -> list[Block]:
    added = [
        {"type": "tool_definition", "definition": _tool(function, None)}
        for function in change["added"]
    ]
    removed = [{"type": "tool_reference", "name": name} for name in change["removed"]]
    return [
        *({"type": "tool_addition", "tool": tool} for tool in added),
        *({"type": "tool_removal", "tool": tool} for tool in removed),
    ]


def _with_id(block: Block, ids: CallIds) -> Block:
    """Return a block with the wire's id; the same block where the log's id can stand."""
    if block["type"] == "tool_use":
        name, id = "id", ids.call(block["id"])
    elif block["type"] == "tool_result":
        name, id = "tool_use_id", ids.result(block["tool_use_id"])
    else:
        return block
    return block if block[name] == id else {**block, name: id}


def _assistant(message: AIMessage, model: str) -> list[Block]:
    blocks = []
    for block in read(message):
        if block["type"] == "call":
            arguments = parse_arguments(block["arguments"])
            wire: Block = {
                "type": "tool_use",
                "id": block["id"],
                "name": block["name"],
                "input": {"arguments": block["arguments"]} if arguments is None else arguments,
            }
            blocks.append(_marked(wire, block))
        elif block["type"] == "opaque":
            if block["model"] == model:
                blocks.append(dict(sorted(block["data"].items())))
        elif block["text"].strip():
            blocks.append(_text(block))
    # A turn of thinking alone is refused, and says nothing to the model.
    return blocks if any(block["type"] in ("text", "tool_use") for block in blocks) else []


def _result(message: ToolMessage) -> Block:
    blocks = texts(message)
    result: Block = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    if blocks:
        result["content"] = [{"type": "text", "text": block["text"]} for block in blocks]
    if message.status == "error":
        result.setdefault("content", [{"type": "text", "text": EMPTY}])
        result["is_error"] = True
    return _marked(result, {"mark": mark_of(message)})


def _text(block: Block) -> Block:
    return _marked({"type": "text", "text": block["text"]}, block)


def _marked(wire: Block, block: Mapping[str, Any]) -> Block:
    mark = block.get("mark")
    if mark:
        wire["cache_control"] = _cache_control(mark)
    return wire


def _cache_control(mark: str) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if mark == "long" else {"type": "ephemeral"}


def _tool(function: Mapping[str, Any], mark: str | None) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        tool["description"] = function["description"]
    tool["input_schema"] = schema_of(function)
    if function.get("strict"):
        tool["strict"] = True
    return _marked(tool, {"mark": mark})


def _choice(tool_choice: Any, parallel: bool | None) -> dict[str, Any]:
    choice: dict[str, Any]
    if isinstance(tool_choice, dict):
        function = tool_choice.get("function")
        choice = {"type": "tool", "name": function["name"]} if function else dict(tool_choice)
    elif tool_choice is None or tool_choice in _CHOICES:
        choice = {"type": _CHOICES[tool_choice or "auto"]}
    else:
        choice = {"type": "tool", "name": str(tool_choice)}
    if parallel is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _check_marks(body: Mapping[str, Any]) -> None:
    blocks = [*body.get("tools", ()), *body.get("system", ())]
    blocks += [block for turn in body["messages"] for block in turn["content"]]
    count = sum("cache_control" in block for block in blocks) + ("cache_control" in body)
    if count > MAX_MARKS:
        raise InputError(
            f"{count} cache breakpoints in one request", hint=f"mark at most {MAX_MARKS}"
        )


def _block(raw: Mapping[str, Any], model: str) -> Block:
    if raw["type"] == "text":
        return {"type": "text", "text": raw["text"]}
    if raw["type"] == "tool_use":
        return {
            "type": "call",
            "id": raw["id"],
            "name": raw["name"],
            "arguments": compact(raw.get("input") or {}),
        }
    return {"type": "opaque", "model": model, "data": dict(raw)}


def _metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        "id": value.get("id"),
        "model_name": value.get("model"),
        "model_provider": "anthropic",
        "stop_reason": value.get("stop_reason"),
        "stop_sequence": value.get("stop_sequence"),
        "stop_details": value.get("stop_details"),
        "diagnostics": value.get("diagnostics"),
    }
    return {name: found for name, found in metadata.items() if found is not None}


class _AnthropicReader(Reader):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._message: dict[str, Any] = {}
        self._open: dict[int, Block] = {}
        self._json: dict[int, str] = {}

    def feed(self, event: dict[str, Any]) -> Iterator[AIMessageChunk]:
        kind = event.get("type")
        if kind == "message_start":
            self._message = dict(event["message"])
        elif kind == "content_block_start":
            yield from self._start(event["index"], event["content_block"])
        elif kind == "content_block_delta":
            yield from self._delta(event["index"], event["delta"])
        elif kind == "content_block_stop":
            yield from self._stop(event["index"])
        elif kind == "message_delta":
            self._message |= _told(event.get("delta"))
            usage = {**_told(self._message.get("usage")), **_told(event.get("usage"))}
            self._message["usage"] = usage
        elif kind == "message_stop":
            self.done = True
            self.metadata = _metadata(self._message)
            self.usage = from_anthropic(self._message.get("usage") or {})
        elif kind == "error":
            raise told_failure(self.model, _told(event.get("error")))

    def _start(self, index: int, block: Block) -> Iterator[AIMessageChunk]:
        self._open[index], self._json[index] = block, ""
        if block["type"] == "text":
            yield text_chunk(index, block.get("text") or "")
        elif block["type"] == "tool_use":
            yield self.call(index, "", call_id=block["id"], name=block["name"])
        elif block["type"] == "thinking":
            data = {name: string(value) for name, value in _told(block).items()}
            yield reasoning_chunk(index, data["thinking"], model=self.model, data=data)

    def _delta(self, index: int, delta: dict[str, Any]) -> Iterator[AIMessageChunk]:
        kind = delta["type"]
        if kind == "text_delta":
            yield text_chunk(index, delta["text"])
        elif kind == "input_json_delta":
            self._json[index] += delta["partial_json"]
            if self._open[index]["type"] == "tool_use" and delta["partial_json"]:
                yield self.call(index, delta["partial_json"])
        elif kind == "thinking_delta":
            text = string(delta["thinking"])
            yield reasoning_chunk(index, text, data={"thinking": text})
        elif kind == "signature_delta":
            yield reasoning_chunk(index, "", data={"signature": string(delta["signature"])})

    def _stop(self, index: int) -> Iterator[AIMessageChunk]:
        block, text = self._open.pop(index), self._json.pop(index)
        if block["type"] == "tool_use":
            if not text:
                yield self.call(index, compact(block.get("input") or {}))
        elif block["type"] not in ("text", "thinking"):
            if text:
                block = {**block, "input": json.loads(text)}
            yield reasoning_chunk(index, "", model=self.model, data=block)


def _told(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}
