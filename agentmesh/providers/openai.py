"""OpenAI's models through the Responses API, with nothing stored at OpenAI."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from agentmesh.economy.semantics import semantics
from agentmesh.errors import InputError
from agentmesh.providers import wire
from agentmesh.providers.blocks import Block, read, reasoning_text, to_answer
from agentmesh.providers.chat import ChatModel, as_tools, schema_of
from agentmesh.providers.chunks import (
    Reader,
    reasoning_chunk,
    refusal_chunk,
    text_chunk,
)
from agentmesh.providers.failures import failure, told_failure
from agentmesh.providers.ids import CallIds
from agentmesh.providers.odds import log_odds, mean
from agentmesh.providers.usage import from_openai

_CHOICES = {"auto": "auto", "any": "required", "required": "required", "none": "none"}


class OpenAIModel(ChatModel):
    """A model of OpenAI, on the `openai` SDK.

    Tools that are new are an item of their own, `additional_tools`; those that are no more, and
    the `withheld` ones that this caller may not use, are left out of `allowed_tools` (types of the
    SDK: `AdditionalTools` in `ResponseInputItemParam`, `ToolChoiceAllowedParam`). Either leaves the
    tool list and all that stands before it as it was, and cached. A tool that is defined anew is
    shown so with the next epoch.

    >>> OpenAIModel(model="gpt-6.1-sol", api_key="sk-...").model_name
    'openai:gpt-6.1-sol'
    """

    vendor: ClassVar[str] = "openai"
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    sdk: ClassVar[Literal["anthropic", "openai"]] = "openai"
    path: ClassVar[str] = "/responses"
    reserved: ClassVar[frozenset[str]] = frozenset({"model", "input", "tools", "stream", "store"})

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
        """Return the body of a Responses request; a `mark` becomes a breakpoint.

        Only models with explicit breakpoints get them, and then no implicit one, so that the
        marks alone decide what is written to the cache.
        """
        if stop:
            raise InputError("the Responses API has no stop sequences", hint="leave stop out")
        explicit = semantics(self.model_name).family == "openai-explicit"
        fields = self._fields(extra)
        body: dict[str, Any] = {"model": self.model, "max_output_tokens": fields.pop("max_tokens")}
        body |= {"store": False, **fields}
        key = cache_key or wire.cache_key(messages)
        if key:
            body["prompt_cache_key"] = key
        listed = [_tool(tool["function"]) for tool in as_tools(tools)]
        offered = _Offered([tool["name"] for tool in listed])
        changes = offered if self.tool_changes else None
        items, marked = _items(messages, self.model_name, changes, explicit=explicit)
        if listed:
            body["tools"] = listed
            choice = offered.choice(tool_choice, withheld)
            if choice is not None:
                body["tool_choice"] = choice
        if marked:
            body["prompt_cache_options"] = {
                "mode": "explicit",
                **body.get("prompt_cache_options", {}),
            }
        body["input"] = items
        if stream:
            body["stream"] = True
        return body

    def _reader(self) -> Reader:
        return _ResponsesReader(self.model_name)

    def _parse(self, value: dict[str, Any], request_id: str) -> AIMessage:
        _raise_failed(value, self.model_name)
        if not isinstance(value.get("output"), list):
            raise failure("api", self.model_name, "sent a response without output")
        metadata = _metadata(value)
        if request_id:
            metadata["request_id"] = request_id
        usage = value.get("usage")
        return to_answer(
            [block for item in value["output"] for block in _blocks(item, self.model_name)],
            usage_metadata=from_openai(usage) if usage else None,
            response_metadata=metadata,
        )


class _Offered:
    """The tools that a request declares, in their order, and those of them that may be called."""

    def __init__(self, listed: Sequence[str]) -> None:
        self._callable = dict.fromkeys(listed, True)

    def change(self, change: Mapping[str, Any]) -> list[Block]:
        """Return the items that tell of a change: the tools that no item has declared yet."""
        new = [f for f in change["added"] if f["name"] not in self._callable]
        self._callable |= dict.fromkeys((f["name"] for f in change["added"]), True)
        self._callable |= dict.fromkeys(change["removed"], False)
        tools = [_tool(function) for function in new]
        return [{"type": "additional_tools", "role": "developer", "tools": tools}] if new else []

    def choice(self, tool_choice: Any, withheld: Collection[str]) -> Any:
        """Return the choice as it is given, narrowed to what may be called."""
        chosen = None if tool_choice is None else _choice(tool_choice)
        allowed = [n for n, free in self._callable.items() if free and n not in withheld]
        if len(allowed) == len(self._callable) or chosen not in (None, "auto", "required"):
            return chosen
        if not allowed:
            return "none"
        return {
            "type": "allowed_tools",
            "mode": chosen or "auto",
            "tools": [{"type": "function", "name": name} for name in allowed],
        }


def _items(
    messages: Sequence[BaseMessage], model: str, changes: _Offered | None, *, explicit: bool
) -> tuple[list[Block], bool]:
    """Return a request's input items, and whether any of them bears a breakpoint."""
    ids = CallIds()
    items: list[Block] = []
    marked = False
    key, make = ("openai", model), partial(_made, model, explicit)
    for message in messages:
        if changes is not None and (change := wire.change_of(message)) is not None:
            items += changes.change(change)
            continue
        own = wire.once(message, key, make)
        items += [_with_id(item, ids) for item in own.items]
        marked = marked or own.marked
    return items, marked


class _Made(NamedTuple):
    items: list[Block]
    marked: bool


def _made(model: str, explicit: bool, message: BaseMessage) -> _Made:
    """Return a message's items; calls and results still bear the log's ids."""
    blocks: list[Block] = []
    if isinstance(message, AIMessage):
        return _Made(_answer(message, model), False)
    if isinstance(message, ToolMessage):
        empty = {"text": wire.EMPTY, "mark": wire.mark_of(message)}
        blocks = wire.texts(message) or [empty]
        output = [_text(block, explicit) for block in blocks]
        call_id = message.tool_call_id
        items = [{"type": "function_call_output", "call_id": call_id, "output": output}]
    elif isinstance(message, (HumanMessage, SystemMessage)):
        blocks = wire.texts(message)
        role = "developer" if isinstance(message, SystemMessage) else "user"
        content = [_text(block, explicit) for block in blocks]
        items = [{"type": "message", "role": role, "content": content}] if content else []
    else:
        raise wire.unknown_message(message)
    return _Made(items, explicit and any(block.get("mark") for block in blocks))


def _with_id(item: Block, ids: CallIds) -> Block:
    """Return an item with the wire's id; the same item where the log's id can stand."""
    if item["type"] == "function_call":
        id = ids.call(item["call_id"])
    elif item["type"] == "function_call_output":
        id = ids.result(item["call_id"])
    else:
        return item
    return item if item["call_id"] == id else {**item, "call_id": id}


def _answer(message: AIMessage, model: str) -> list[Block]:
    items: list[Block] = []
    for block in read(message):
        if block["type"] == "call":
            item = {
                "type": "function_call",
                "call_id": block["id"],
                "name": block["name"],
                "arguments": block["arguments"],
            }
            items.append(item)
        elif block["type"] == "opaque":
            if block["model"] == model:
                items.append(dict(sorted(block["data"].items())))
        elif block["text"].strip():
            part = {"type": "output_text", "text": block["text"], "annotations": []}
            item = {"type": "message", "role": "assistant", "content": [part]}
            if "phase" in block:
                item["phase"] = block["phase"]
            items.append(item)
    # Reasoning without what it led to is refused.
    return items if any(item["type"] in ("message", "function_call") for item in items) else []


def _text(block: Block, explicit: bool) -> Block:
    part: Block = {"type": "input_text", "text": block["text"]}
    if explicit and block.get("mark"):
        part["prompt_cache_breakpoint"] = {"mode": "explicit"}
        if block["mark"] == "long":
            part["prompt_cache_breakpoint"]["ttl"] = "12h"
    return part


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    tool: dict[str, Any] = {"type": "function", "name": function["name"]}
    if function.get("description"):
        tool["description"] = function["description"]
    return {
        **tool,
        "parameters": schema_of(function),
        "strict": bool(function.get("strict", False)),
    }


def _choice(tool_choice: Any) -> Any:
    if isinstance(tool_choice, dict):
        function = tool_choice.get("function")
        return {"type": "function", "name": function["name"]} if function else tool_choice
    if tool_choice is True:
        return "required"
    return _CHOICES.get(tool_choice) or {"type": "function", "name": str(tool_choice)}


def _raise_failed(response: Mapping[str, Any], model: str) -> None:
    error = response.get("error")
    if isinstance(error, Mapping) or response.get("status") in ("failed", "cancelled"):
        raise told_failure(model, error or {"message": "the response failed"})


def _blocks(item: Mapping[str, Any], model: str) -> list[Block]:
    kind = item["type"]
    if kind == "message":
        blocks = []
        for part in item["content"]:
            if part["type"] == "refusal":
                blocks.append({"type": "refusal", "text": part["refusal"]})
                continue
            block = {"type": "text", "text": part["text"]}
            if item.get("phase"):
                block["phase"] = item["phase"]
            blocks.append(block)
        return blocks
    if kind == "function_call":
        return [
            {
                "type": "call",
                "id": item["call_id"],
                "name": item["name"],
                "arguments": item["arguments"] or "{}",
            }
        ]
    data = _replayable(item)
    if data:
        return [{"type": "opaque", "model": model, "data": data}]
    shown = reasoning_text(dict(item))
    return [{"type": "reasoning", "model": model, "text": shown}] if shown else []


def _replayable(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an item as it can be sent back; reasoning that only OpenAI's store holds cannot."""
    if item["type"] == "reasoning" and not item.get("encrypted_content"):
        return None
    return {name: value for name, value in item.items() if name != "status" and value is not None}


def _metadata(response: Mapping[str, Any]) -> dict[str, Any]:
    reason = response.get("status")
    if reason == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason")
    parts = [part for item in response.get("output") or () for part in item.get("content") or ()]
    if any(part.get("type") == "refusal" for part in parts):
        reason = "refusal"
    metadata = {
        "id": response.get("id"),
        "model_name": response.get("model"),
        "model_provider": "openai",
        "stop_reason": reason,
        "service_tier": response.get("service_tier"),
        "prompt_cache_diagnostics": response.get("prompt_cache_diagnostics"),
        "logprob": mean(one for part in parts for one in log_odds(part.get("logprobs"))),
    }
    return {name: found for name, found in metadata.items() if found is not None}


class _ResponsesReader(Reader):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._heard: set[Hashable] = set()
        self._phases: dict[Any, str] = {}

    def feed(self, event: dict[str, Any]) -> Iterator[AIMessageChunk]:
        kind = str(event.get("type"))
        item = event.get("output_index")
        if kind == "response.output_item.added":
            yield from self._begin(item, event["item"])
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            refused = kind == "response.refusal.delta"
            yield self._say((item, event["content_index"]), event["delta"], refused=refused)
        elif kind == "response.function_call_arguments.delta":
            yield self._argue(item, event["delta"])
        elif kind == "response.reasoning_summary_part.added":
            if event.get("summary_index"):
                yield self._reason(item, "\n\n")
        elif kind == "response.reasoning_summary_text.delta":
            yield self._reason(item, event["delta"])
        elif kind == "response.output_item.done":
            yield from self._end(item, event["item"])
        elif kind in ("response.completed", "response.incomplete"):
            self._finish(event["response"])
        elif kind == "response.failed":
            _raise_failed({**event["response"], "status": "failed"}, self.model)
        elif kind == "error":
            raise told_failure(self.model, event.get("error") or event)

    def _begin(self, item: Any, value: Mapping[str, Any]) -> Iterator[AIMessageChunk]:
        if value["type"] == "function_call":
            index = self.at((item,))
            yield self.call(index, "", call_id=value["call_id"], name=value["name"])
        elif value["type"] == "message" and value.get("phase"):
            self._phases[item] = value["phase"]

    def _say(self, part: tuple[Any, int], text: str, *, refused: bool) -> AIMessageChunk:
        phase = None if self.has(part) else self._phases.get(part[0])
        self._heard.add(part)
        if refused:
            return refusal_chunk(self.at(part), text)
        return text_chunk(self.at(part), text, phase=phase)

    def _argue(self, item: Any, arguments: str) -> AIMessageChunk:
        if arguments:
            self._heard.add((item,))
        return self.call(self.at((item,)), arguments)

    def _reason(self, item: Any, text: str, data: dict[str, Any] | None = None) -> AIMessageChunk:
        model = None if self.has((item,)) else self.model
        self._heard.add((item,))
        return reasoning_chunk(self.at((item,)), text, model=model, data=data)

    def _end(self, item: Any, value: Mapping[str, Any]) -> Iterator[AIMessageChunk]:
        """Yield what a finished item holds that no delta told."""
        if value["type"] == "message":
            for number, part in enumerate(value["content"]):
                if (item, number) not in self._heard:
                    refused = part["type"] == "refusal"
                    text = part["refusal"] if refused else part["text"]
                    yield self._say((item, number), text, refused=refused)
        elif value["type"] == "function_call":
            if not self.has((item,)):
                yield from self._begin(item, value)
            if (item,) not in self._heard:
                yield self._argue(item, value["arguments"] or "{}")
        else:
            data = _replayable(value)
            shown = "" if (item,) in self._heard else reasoning_text(dict(value))
            if data or shown:
                yield self._reason(item, shown, data)

    def _finish(self, response: Mapping[str, Any]) -> None:
        self.done = True
        self.metadata = _metadata(response)
        if response.get("usage"):
            self.usage = from_openai(response["usage"])
