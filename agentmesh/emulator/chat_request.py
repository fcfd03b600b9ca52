"""How a request for a chat completion is read: tools, then the messages in order."""

from __future__ import annotations

from typing import Any

from agentmesh.economy.semantics import listed_as
from agentmesh.emulator import openai
from agentmesh.emulator.brain import Call, Message, Request, Role
from agentmesh.emulator.openai import Breakpoints, known_fields, need, one_of, optional
from agentmesh.emulator.refusal import Refusal, words
from agentmesh.emulator.wire import IMAGE_TOKENS, BlockBuilder, Parsed, compact

_FIELDS = words(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs "
    "max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls "
    "prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity "
    "web_search_options"
)
_COMPATIBLE_FIELDS = _FIELDS | words(
    "top_k min_p repetition_penalty length_penalty min_tokens chat_template "
    "chat_template_kwargs cache_salt stop_token_ids ignore_eos include_reasoning "
    "structured_outputs guided_json guided_regex guided_choice thinking priority"
)
_MESSAGE_FIELDS = {
    "system": frozenset(("role", "content", "name")),
    "developer": frozenset(("role", "content", "name")),
    "user": frozenset(("role", "content", "name")),
    "assistant": frozenset(
        (
            "role",
            "content",
            "name",
            "refusal",
            "tool_calls",
            "audio",
            "function_call",
            "reasoning_content",
            "reasoning",
        )
    ),
    "tool": frozenset(("role", "content", "tool_call_id", "name")),
}
_TOOL_FIELDS = frozenset(("type", "function"))
_FUNCTION_FIELDS = frozenset(("name", "description", "parameters", "strict"))
_CALL_FIELDS = frozenset(("id", "type", "function", "index"))
_ANSWER_FIELDS = frozenset(("type", "text", "refusal"))
_TEXT_FIELDS = _ANSWER_FIELDS | {"prompt_cache_breakpoint"}
_PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}


def compatible(model: str) -> bool:
    """Return whether `model` is served by others than OpenAI, whose servers take more."""
    return not listed_as(f"openai-compatible:{model}").startswith("openai:")


class Reader:
    """Reads one request: tools, then the messages in order."""

    def __init__(self, raw: dict[str, Any], key: str) -> None:
        self._raw = raw
        self._key = key

    def read(self) -> Parsed:
        """Return the request, or raise the refusal that the server would answer with."""
        raw = self._raw
        model = need(raw, "model", str)
        if not model:
            raise Refusal("you must provide a model parameter")
        known_fields(raw, _COMPATIBLE_FIELDS if compatible(model) else _FIELDS)
        self._cache = Breakpoints(raw, model, ("30m",))
        limit = self._limit(model)
        settings = [
            raw.get(name)
            for name in ("parallel_tool_calls", "response_format", "reasoning_effort", "verbosity")
        ]
        self._builder = BlockBuilder(self._cache.rules.granularity, compact(settings))
        tools = self._tools()
        system: list[str] = []
        messages = self._messages(need(raw, "messages", list), system)
        options = optional(raw, "stream_options", dict) or {}
        if options and not raw.get("stream"):
            raise Refusal(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )
        request = Request("chat", model, "\n".join(system), messages, tools, limit, self._key, raw)
        return Parsed(
            request,
            f"openai-compatible:{model}",
            self._builder.blocks,
            self._cache.implicit,
            bool(raw.get("stream")),
            with_usage=bool(options.get("include_usage")),
        )

    def _limit(self, model: str) -> int | None:
        raw = self._raw
        optional(raw, "stream", bool)
        optional(raw, "parallel_tool_calls", bool)
        old = optional(raw, "max_tokens", int)
        limit: int | None = optional(raw, "max_completion_tokens", int)
        openai.at_least(old, 1, "max_tokens")
        openai.at_least(limit, 1, "max_completion_tokens")
        own = not compatible(model)
        if own and openai.reasons(model):
            if old is not None:
                raise openai.unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
            temperature = optional(raw, "temperature", float)
            if temperature not in (None, 1) and raw.get("reasoning_effort") != "none":
                raise openai.unsupported("temperature")
        if optional(raw, "n", int) not in (None, 1):
            raise Refusal("n: the emulator gives one choice", param="n", code="invalid_value")
        return limit if limit is not None else old

    def _tools(self) -> tuple[dict[str, Any], ...]:
        tools = optional(self._raw, "tools", list)
        if tools == []:
            raise Refusal(
                "Invalid 'tools': empty array. Expected an array with minimum length 1.",
                param="tools",
                code="empty_array",
            )
        names: list[str] = []
        for index, tool in enumerate(tools or ()):
            path = f"tools[{index}]"
            openai.typed(tool, dict, path)
            one_of(need(tool, "type", str, f"{path}.type"), ("function",), f"{path}.type")
            known_fields(tool, _TOOL_FIELDS, path)
            function = need(tool, "function", dict, f"{path}.function")
            known_fields(function, _FUNCTION_FIELDS, f"{path}.function")
            openai.function(function, f"{path}.function", self._builder)
            names.append(function["name"])
        choice = self._raw.get("tool_choice")
        if choice is not None and not tools:
            raise Refusal(
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
                "specified.",
                param="tool_choice",
            )
        if isinstance(choice, dict):
            function = choice.get("function")
            wanted = function.get("name") if isinstance(function, dict) else None
            if wanted not in names:
                raise Refusal(
                    f"Invalid value for 'tool_choice': no tool named '{wanted}' was specified in "
                    "the 'tools' parameter.",
                    param="tool_choice",
                )
        elif choice is not None:
            one_of(choice, ("none", "auto", "required"), "tool_choice")
        return tuple(tools or ())

    def _messages(self, messages: list[Any], system: list[str]) -> tuple[Message, ...]:
        if not messages:
            raise Refusal(
                "Invalid 'messages': empty array. Expected an array with minimum length 1.",
                param="messages",
                code="empty_array",
            )
        seen: list[Message] = []
        open_: list[str] = []
        for index, raw in enumerate(messages):
            path = f"messages[{index}]"
            openai.typed(raw, dict, path)
            role = one_of(need(raw, "role", str, f"{path}.role"), _MESSAGE_FIELDS, f"{path}.role")
            known_fields(raw, _MESSAGE_FIELDS[role], path)
            if role == "tool":
                self._answers(raw, path, open_, index)
            elif open_:
                raise _unanswered(open_)
            message = self._message(raw, path, role, index)
            if message.calls:
                open_ = [call.id for call in message.calls]
            if message.role == "system":
                system.append(message.text)
            else:
                seen.append(message)
        if open_:
            raise _unanswered(open_)
        return tuple(seen)

    def _answers(self, raw: dict[str, Any], path: str, open_: list[str], index: int) -> None:
        call_id = need(raw, "tool_call_id", str, f"{path}.tool_call_id")
        if call_id not in open_:
            raise Refusal(
                "Invalid parameter: messages with role 'tool' must be a response to a "
                "preceeding message with 'tool_calls'.",
                param=f"messages.[{index}].role",
            )
        open_.remove(call_id)

    def _message(self, raw: dict[str, Any], path: str, role: str, index: int) -> Message:
        calls = self._calls(raw, path)
        content = raw.get("content")
        if content is None:
            if role != "assistant" or not (calls or raw.get("refusal")):
                raise Refusal(
                    "Invalid value for 'content': expected a string, got null.",
                    param=f"messages.[{index}].content",
                )
            content = []
        kind = f"{role} {raw.get('name', '')} {raw.get('tool_call_id', '')}"
        closes = role in ("user", "tool")
        reasoning = optional(raw, "reasoning_content", str, f"{path}.reasoning_content")
        if reasoning:
            self._builder.add("reasoning", reasoning)
        texts = self._content(content, path, role, kind, closes)
        for call in calls:
            self._builder.add(f"call {call.id}", call.name + call.arguments)
        own: Role = "system"
        if role in ("user", "assistant", "tool"):
            own = role  # type: ignore[assignment]  # narrowed by the line above
        return Message(
            own, "\n".join(texts), calls, raw.get("tool_call_id", ""), parts=tuple(texts)
        )

    def _content(self, content: Any, path: str, role: str, kind: str, closes: bool) -> list[str]:
        if isinstance(content, str):
            self._builder.add(kind, content, closes=closes)
            return [content]
        openai.typed(content, list, f"{path}.content")
        texts = []
        for number, part in enumerate(content):
            where = f"{path}.content[{number}]"
            openai.typed(part, dict, where)
            type_ = one_of(need(part, "type", str, f"{where}.type"), _PARTS[role], f"{where}.type")
            last = closes and number == len(content) - 1
            if role == "assistant" and "prompt_cache_breakpoint" in part:
                known_fields(part, _ANSWER_FIELDS, where)
            mark = self._cache.mark(part, where)
            if type_ in ("text", "refusal"):
                known_fields(part, _TEXT_FIELDS, where)
                text: str = need(part, type_, str, f"{where}.{type_}")
                self._builder.add(kind, text, mark=mark, closes=last)
                texts.append(text)
            else:
                self._builder.add(
                    f"{kind} {type_}", compact(part), mark=mark, closes=last, tokens=IMAGE_TOKENS
                )
        return texts

    def _calls(self, raw: dict[str, Any], path: str) -> tuple[Call, ...]:
        calls = optional(raw, "tool_calls", list, f"{path}.tool_calls")
        if calls == []:
            raise Refusal(
                f"Invalid '{path}.tool_calls': empty array. Expected an array with minimum "
                "length 1.",
                param=f"{path}.tool_calls",
                code="empty_array",
            )
        found = []
        for number, call in enumerate(calls or ()):
            where = f"{path}.tool_calls[{number}]"
            openai.typed(call, dict, where)
            known_fields(call, _CALL_FIELDS, where)
            one_of(need(call, "type", str, f"{where}.type"), ("function",), f"{where}.type")
            function = need(call, "function", dict, f"{where}.function")
            found.append(
                Call(
                    need(call, "id", str, f"{where}.id"),
                    need(function, "name", str, f"{where}.function.name"),
                    need(function, "arguments", str, f"{where}.function.arguments"),
                )
            )
        if len({call.id for call in found}) < len(found):
            raise Refusal(
                f"Duplicate value for 'tool_call_id' in '{path}.tool_calls'.",
                param=f"{path}.tool_calls",
            )
        return tuple(found)


def _unanswered(open_: list[str]) -> Refusal:
    return Refusal(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        f"{', '.join(open_)}",
        param="messages",
    )
