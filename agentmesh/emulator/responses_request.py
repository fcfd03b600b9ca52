"""How a request to OpenAI's Responses API is read: tools, then instructions, then input."""

from __future__ import annotations

from typing import Any

from agentmesh.emulator import openai
from agentmesh.emulator.brain import Call, Message, Request, Role
from agentmesh.emulator.openai import Breakpoints, known_fields, need, one_of, optional
from agentmesh.emulator.refusal import Refusal, words
from agentmesh.emulator.wire import IMAGE_TOKENS, BlockBuilder, Parsed, compact, signature

_FIELDS = words(
    "access_programs background background_options context_management conversation image "
    "include input instructions max_output_tokens max_tool_calls metadata model moderation "
    "parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options "
    "prompt_cache_retention reasoning safety_identifier service_tier store stream "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
_TOOL_FIELDS = frozenset(("type", "name", "description", "parameters", "strict"))
_ITEMS = ("message", "function_call", "function_call_output", "reasoning", "additional_tools")
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
    "additional_tools": frozenset(("type", "id", "role", "tools")),
}


class Reader:
    """Reads one request in OpenAI's order: tools, instructions, input."""

    def __init__(self, raw: dict[str, Any], key: str) -> None:
        self._raw = raw
        self._key = key

    def read(self) -> Parsed:
        """Return the request, or raise the refusal that OpenAI would answer with."""
        raw = self._raw
        known_fields(raw, _FIELDS)
        model = need(raw, "model", str)
        if not model:
            raise Refusal("you must provide a model parameter")
        self._model = model
        self._cache = Breakpoints(raw, model, ("30m", "12h"))
        settings = self._settings(model)
        self._builder = BlockBuilder(self._cache.rules.granularity, settings)
        self._tools: dict[str, dict[str, Any]] = {}
        self._declare(optional(raw, "tools", list) or [], "tools")
        instructions = optional(raw, "instructions", str) or ""
        texts = [instructions] if instructions else []
        if instructions:
            self._builder.add("instructions", instructions)
        messages = self._input(texts)
        tools = openai.chosen(raw.get("tool_choice"), self._tools)
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
        optional(raw, "metadata", dict)
        optional(raw, "include", list)
        parallel = optional(raw, "parallel_tool_calls", bool)
        text = optional(raw, "text", dict) or {}
        reasoning = optional(raw, "reasoning", dict) or {}
        optional(reasoning, "effort", str, "reasoning.effort")
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

    def _declare(self, tools: list[Any], where: str) -> None:
        for index, tool in enumerate(tools):
            path = f"{where}[{index}]"
            openai.typed(tool, dict, path)
            one_of(need(tool, "type", str, f"{path}.type"), ("function",), f"{path}.type")
            known_fields(tool, _TOOL_FIELDS, path)
            if "parameters" not in tool:
                need(tool, "parameters", dict, f"{path}.parameters")
            openai.function(tool, path, self._builder)
            self._tools[tool["name"]] = tool

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
            if kind == "additional_tools":
                continue
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

    def _additional_tools(self, item: dict[str, Any], path: str) -> None:
        one_of(need(item, "role", str, f"{path}.role"), ("developer",), f"{path}.role")
        self._declare(need(item, "tools", list, f"{path}.tools"), f"{path}.tools")

    def _reasoning(self, item: dict[str, Any], path: str) -> None:
        need(item, "id", str, f"{path}.id")
        parts = need(item, "summary", list, f"{path}.summary")
        places = [f"{path}.summary[{number}]" for number in range(len(parts))]
        text = "".join(
            need(openai.typed(part, dict, place), "text", str, f"{place}.text")
            for part, place in zip(parts, places, strict=True)
        )
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
