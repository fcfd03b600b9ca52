"""OpenAI's Responses API: its checks, its breakpoints, its responses and events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as numbers
from typing import Any

from agentmesh.emulator import openai
from agentmesh.emulator.brain import Api, Call, Message, Request, Role
from agentmesh.emulator.openai import Breakpoints, known_fields, need, one_of, optional
from agentmesh.emulator.refusal import Refusal, words
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

_FIELDS = words(
    "access_programs background background_options context_management conversation image "
    "include input instructions max_output_tokens max_tool_calls metadata model moderation "
    "parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options "
    "prompt_cache_retention reasoning safety_identifier service_tier store stream "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
_TOOL_FIELDS = frozenset(("type", "name", "description", "parameters", "strict"))
_ITEMS = ("message", "function_call", "function_call_output", "reasoning")
_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
_PART_FIELDS = {
    "input_text": frozenset(("type", "text", "prompt_cache_breakpoint")),
    "input_image": frozenset(("type", "image_url", "file_id", "detail", "prompt_cache_breakpoint")),
    "input_file": frozenset(
        (
            "type",
            "file_id",
            "file_data",
            "file_url",
            "filename",
            "detail",
            "prompt_cache_breakpoint",
        )
    ),
    "output_text": frozenset(("type", "text", "annotations", "logprobs")),
    "refusal": frozenset(("type", "refusal")),
}
_ITEM_FIELDS = {
    "message": frozenset(("type", "role", "content", "id", "status", "phase")),
    "function_call": frozenset(("type", "id", "call_id", "name", "arguments", "status")),
    "function_call_output": frozenset(("type", "id", "call_id", "output", "status")),
    "reasoning": frozenset(("type", "id", "summary", "content", "encrypted_content", "status")),
}


class Responses:
    """The dialect of `POST /v1/responses`."""

    api: Api = "responses"
    call_prefix = "call_"
    id_prefix = "resp_"

    def parse(self, raw: dict[str, Any], key: str) -> Parsed:
        """Return the request, or raise the refusal that OpenAI would answer with."""
        return _Reader(raw, key).read()

    def body(self, reply: Reply) -> dict[str, Any]:
        """Return the finished response."""
        output = [_item(reply, part, n, "completed") for n, part in enumerate(_parts(reply))]
        if reply.stop == "length" and output:
            output[-1]["status"] = "incomplete"
        return _response(reply, output, done=True)

    def events(self, reply: Reply) -> Iterator[Event]:
        """Yield response.created, each item with its deltas, and response.completed."""
        sequence = numbers()

        def event(name: str, text: str = "", /, **fields: Any) -> Event:
            body = {"type": name, "sequence_number": next(sequence), **fields}
            return Event(name, body, text)

        start = _response(reply, [], done=False)
        yield event("response.created", response=start)
        yield event("response.in_progress", response=start)
        final = self.body(reply)
        for index, part in enumerate(_parts(reply)):
            item = final["output"][index]
            empty = _item(reply, part, index, "in_progress")
            name = part.name if isinstance(part, Call) else ""
            opened = {**empty, **_emptied(empty)}
            yield event("response.output_item.added", name, output_index=index, item=opened)
            for kind, text, fields in _deltas(part, item):
                place = {"item_id": item["id"], "output_index": index}
                yield event(kind, text, **place, **fields)
            yield event("response.output_item.done", output_index=index, item=item)
        last = "response.incomplete" if reply.stop == "length" else "response.completed"
        yield event(last, response=final)

    def error(self, refusal: Refusal, request_id: str) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return openai.error(refusal)

    def error_event(self, refusal: Refusal) -> Event:
        """Return the `error` event."""
        code = refusal.code or "server_error"
        body = {"type": "error", "sequence_number": 0, "code": code}
        return Event("error", {**body, "message": refusal.message, "param": refusal.param})

    def encode(self, event: Event) -> bytes:
        """Return the event with its name."""
        return openai.named(event)

    def overflow(self, tokens: int, window: int) -> Refusal:
        """Return the refusal of a prompt that is too long."""
        return openai.overflow(tokens, window)


def _response(reply: Reply, output: list[dict[str, Any]], *, done: bool) -> dict[str, Any]:
    raw = reply.request.raw
    used = reply.usage
    status = ("incomplete" if reply.stop == "length" else "completed") if done else "in_progress"
    usage = {
        "input_tokens": used.input,
        "input_tokens_details": {
            "cached_tokens": used.read,
            "cache_write_tokens": used.write + used.write_long,
            "cache_write_tokens_details": {
                "ttl_30m_tokens": used.write,
                "ttl_12h_tokens": used.write_long,
            },
        },
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }
    return {
        "id": reply.id,
        "object": "response",
        "created_at": int(reply.at),
        "status": status,
        "background": False,
        "completed_at": int(reply.at) if done and status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": raw.get("instructions"),
        "max_output_tokens": raw.get("max_output_tokens"),
        "metadata": raw.get("metadata") or {},
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": raw.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": raw.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **(raw.get("reasoning") or {})},
        "service_tier": "default",
        "store": raw.get("store", True),
        "temperature": raw.get("temperature", 1.0),
        "text": raw.get("text") or {"format": {"type": "text"}},
        "tool_choice": raw.get("tool_choice", "auto"),
        "tools": raw.get("tools") or [],
        "top_p": raw.get("top_p", 1.0),
        "truncation": raw.get("truncation", "disabled"),
        "usage": usage if done else None,
        "user": raw.get("user"),
        **reply.extra,
    }


def _parts(reply: Reply) -> Iterator[str | Call | tuple[str] | None]:
    """Yield what the output holds: reasoning as a tuple, text, a refusal as None, calls."""
    if reply.reasoning:
        yield (reply.reasoning,)
    if reply.stop == "refusal":
        yield None
    elif reply.text:
        yield reply.text
    yield from reply.calls


def _item(
    reply: Reply, part: str | Call | tuple[str] | None, index: int, status: str
) -> dict[str, Any]:
    tail = f"{reply.id.removeprefix('resp_')}{index:02d}"
    if isinstance(part, Call):
        item = {"type": "function_call", "id": f"fc_{tail}", "call_id": part.id}
        return {**item, "name": part.name, "arguments": part.arguments, "status": status}
    if isinstance(part, tuple):
        sealed = signature(reply.model, part[0])
        encrypted = {"encrypted_content": sealed} if _wants_encrypted(reply) else {}
        summary = [{"type": "summary_text", "text": part[0]}]
        return {"type": "reasoning", "id": f"rs_{tail}", "summary": summary, **encrypted}
    content: dict[str, Any] = {"type": "output_text", "text": part, "annotations": []}
    if part is None:
        content = {"type": "refusal", "refusal": reply.text or "I'm sorry, I can't help with that."}
    item = {"type": "message", "id": f"msg_{tail}", "role": "assistant", "status": status}
    return {**item, "content": [content]}


def _wants_encrypted(reply: Reply) -> bool:
    return "reasoning.encrypted_content" in (reply.request.raw.get("include") or [])


def _emptied(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "function_call":
        return {"arguments": ""}
    return {"summary" if item["type"] == "reasoning" else "content": []}


def _deltas(
    part: str | Call | tuple[str] | None, item: dict[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the events inside one output item: name, text of the model, fields."""
    if isinstance(part, Call):
        kind = "response.function_call_arguments"
        for text in chunks(part.arguments):
            yield f"{kind}.delta", text, {"delta": text}
        yield f"{kind}.done", "", {"name": part.name, "arguments": part.arguments}
        return
    if isinstance(part, tuple):
        kind, place = "response.reasoning_summary", {"summary_index": 0}
        empty: dict[str, Any] = {"type": "summary_text", "text": ""}
        yield f"{kind}_part.added", "", {**place, "part": empty}
        for text in chunks(part[0]):
            yield f"{kind}_text.delta", text, {**place, "delta": text}
        yield f"{kind}_text.done", "", {**place, "text": part[0]}
        yield f"{kind}_part.done", "", {**place, "part": item["summary"][0]}
        return
    content = item["content"][0]
    place = {"content_index": 0}
    name = "refusal" if part is None else "text"
    whole = content[name]
    empty = {**content, name: ""}
    yield "response.content_part.added", "", {**place, "part": empty}
    stem = "response.refusal" if part is None else "response.output_text"
    extra: dict[str, Any] = {} if part is None else {"logprobs": []}
    for text in chunks(whole):
        yield f"{stem}.delta", text, {**place, "delta": text, **extra}
    yield f"{stem}.done", "", {**place, name: whole, **extra}
    yield "response.content_part.done", "", {**place, "part": content}


class _Reader:
    """Reads one request in OpenAI's order: tools, instructions, input."""

    def __init__(self, raw: dict[str, Any], key: str) -> None:
        self._raw = raw
        self._key = key

    def read(self) -> Parsed:
        raw = self._raw
        known_fields(raw, _FIELDS)
        model = need(raw, "model", str)
        if not model:
            raise Refusal("you must provide a model parameter")
        self._model = model
        self._cache = Breakpoints(raw, model, ("30m", "12h"))
        settings = self._settings(model)
        self._builder = BlockBuilder(self._cache.rules.granularity, settings)
        tools = self._tools()
        instructions = optional(raw, "instructions", str) or ""
        texts = [instructions] if instructions else []
        if instructions:
            self._builder.add("instructions", instructions)
        messages = self._input(texts)
        request = Request(
            "responses",
            model,
            "\n".join(texts),
            messages,
            tools,
            raw.get("max_output_tokens"),
            self._key,
            raw,
        )
        return Parsed(
            request,
            f"openai:{model}",
            self._builder.blocks,
            self._cache.implicit,
            bool(raw.get("stream")),
            silent=self._cache.prewarm,
        )

    def _settings(self, model: str) -> str:
        """Check the settings; return those that are part of the cached prefix."""
        raw = self._raw
        openai.at_least(optional(raw, "max_output_tokens", int), 16, "max_output_tokens")
        optional(raw, "stream", bool)
        optional(raw, "store", bool)
        parallel = optional(raw, "parallel_tool_calls", bool)
        text = optional(raw, "text", dict) or {}
        reasoning = optional(raw, "reasoning", dict) or {}
        if reasoning and not openai.reasons(model):
            raise openai.unsupported("reasoning.effort")
        for name in ("temperature", "top_p"):
            value = optional(raw, name, float)
            if value is not None and openai.reasons(model) and reasoning.get("effort") != "none":
                raise openai.unsupported(name)
        if raw.get("previous_response_id") is not None:
            id_ = raw["previous_response_id"]
            raise Refusal(
                f"Previous response with id '{id_}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return compact([parallel, text, reasoning.get("effort")])

    def _tools(self) -> tuple[dict[str, Any], ...]:
        tools = optional(self._raw, "tools", list) or []
        names: set[str] = set()
        for index, tool in enumerate(tools):
            path = f"tools[{index}]"
            openai.typed(tool, dict, path)
            one_of(need(tool, "type", str, f"{path}.type"), ("function",), f"{path}.type")
            known_fields(tool, _TOOL_FIELDS, path)
            if "parameters" not in tool:
                need(tool, "parameters", dict, f"{path}.parameters")
            openai.function(tool, path, self._builder)
            names.add(tool["name"])
        choice = self._raw.get("tool_choice")
        if isinstance(choice, dict) and choice.get("type") == "function":
            if choice.get("name") not in names:
                raise Refusal(
                    f"Tool choice 'function' not found in 'tools' parameter: {choice.get('name')}.",
                    param="tool_choice",
                )
        elif isinstance(choice, str):
            one_of(choice, ("none", "auto", "required"), "tool_choice")
        return tuple(tools)

    def _input(self, system: list[str]) -> tuple[Message, ...]:
        items = self._raw.get("input")
        if items is None:
            need({}, "input", str)
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        openai.typed(items, list, "input")
        if not items:
            raise Refusal(
                "Invalid 'input': empty array. Expected an array with minimum length 1.",
                param="input",
                code="empty_array",
            )
        self._open: dict[str, bool] = {}
        seen: list[Message] = []
        for index, item in enumerate(items):
            path = f"input[{index}]"
            openai.typed(item, dict, path)
            kind = one_of(item.get("type", "message"), _ITEMS, f"{path}.type")
            known_fields(item, _ITEM_FIELDS[kind], path)
            message = getattr(self, f"_{kind}")(item, path)
            if kind == "reasoning":
                self._follows(items, index, item)
                continue
            if message.role == "system":
                system.append(message.text)
            merge = message.role == "assistant" and seen and seen[-1].role == "assistant"
            if merge:
                seen[-1] = _joined(seen[-1], message)
            elif message.role != "system":
                seen.append(message)
        for call_id, answered in self._open.items():
            if not answered:
                raise Refusal(f"No tool output found for function call {call_id}.", param="input")
        return tuple(seen)

    def _follows(self, items: list[Any], index: int, item: dict[str, Any]) -> None:
        after = items[index + 1] if index + 1 < len(items) else {}
        own = isinstance(after, dict) and (
            after.get("type") in ("function_call", "reasoning") or after.get("role") == "assistant"
        )
        if not own:
            raise Refusal(
                f"Item '{item['id']}' of type 'reasoning' was provided without its required "
                "following item.",
                param="input",
            )

    def _message(self, item: dict[str, Any], path: str) -> Message:
        role = one_of(need(item, "role", str, f"{path}.role"), _PARTS, f"{path}.role")
        content = item.get("content")
        if isinstance(content, str):
            kind = "output_text" if role == "assistant" else "input_text"
            content = [{"type": kind, "text": content}]
        if content is None:
            need({}, "content", list, f"{path}.content")
        openai.typed(content, list, f"{path}.content")
        if not content:
            raise Refusal(
                f"Invalid '{path}.content': empty array. Expected an array with minimum length 1.",
                param=f"{path}.content",
                code="empty_array",
            )
        texts = []
        for number, part in enumerate(content):
            closes = role == "user" and number == len(content) - 1
            where = f"{path}.content[{number}]"
            texts.append(self._part(part, where, role, _PARTS[role], closes))
        own: Role = "user" if role == "user" else "assistant" if role == "assistant" else "system"
        texts = [text for text in texts if text]
        return Message(own, "\n".join(texts), parts=tuple(texts))

    def _part(self, part: Any, path: str, kind: str, allowed: tuple[str, ...], closes: bool) -> str:
        openai.typed(part, dict, path)
        type_ = one_of(need(part, "type", str, f"{path}.type"), allowed, f"{path}.type")
        known_fields(part, _PART_FIELDS[type_], path)
        mark = self._cache.mark(part, path)
        if type_ in ("input_image", "input_file"):
            self._builder.add(
                f"{kind} {type_}", compact(part), mark=mark, closes=closes, tokens=IMAGE_TOKENS
            )
            return ""
        field = "refusal" if type_ == "refusal" else "text"
        text: str = need(part, field, str, f"{path}.{field}")
        self._builder.add(f"{kind} {type_}", text, mark=mark, closes=closes)
        return text

    def _function_call(self, item: dict[str, Any], path: str) -> Message:
        call = Call(
            need(item, "call_id", str, f"{path}.call_id"),
            need(item, "name", str, f"{path}.name"),
            need(item, "arguments", str, f"{path}.arguments"),
        )
        if call.id in self._open:
            raise Refusal(f"Duplicate function call with call_id {call.id}.", param="input")
        self._open[call.id] = False
        self._builder.add(f"call {call.id}", call.name + call.arguments)
        return Message("assistant", calls=(call,))

    def _function_call_output(self, item: dict[str, Any], path: str) -> Message:
        call_id = need(item, "call_id", str, f"{path}.call_id")
        if self._open.get(call_id) is not False:
            raise Refusal(
                f"No tool call found for function call output with call_id {call_id}.",
                param="input",
            )
        self._open[call_id] = True
        output = item.get("output")
        if isinstance(output, str):
            self._builder.add(f"result {call_id}", output, closes=True)
            return Message("tool", output, call_id=call_id, parts=(output,))
        output = need(item, "output", list, f"{path}.output")
        texts = [
            self._part(
                part,
                f"{path}.output[{number}]",
                f"result {call_id}",
                _PARTS["user"],
                number == len(output) - 1,
            )
            for number, part in enumerate(output)
        ]
        return Message("tool", "\n".join(texts), call_id=call_id, parts=tuple(texts))

    def _reasoning(self, item: dict[str, Any], path: str) -> None:
        need(item, "id", str, f"{path}.id")
        parts = need(item, "summary", list, f"{path}.summary")
        text = "".join(part.get("text", "") for part in parts if isinstance(part, dict))
        sealed = optional(item, "encrypted_content", str, f"{path}.encrypted_content")
        if sealed is not None and sealed != signature(self._model, text):
            raise Refusal(
                f"The encrypted content for item {item['id']} could not be verified.",
                code="invalid_encrypted_content",
            )
        self._builder.add("reasoning", text)


def _joined(first: Message, second: Message) -> Message:
    parts = first.parts + second.parts
    return Message("assistant", "\n".join(parts), first.calls + second.calls, parts=parts)
