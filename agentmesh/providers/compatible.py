"""Any server of the Chat Completions API: vLLM, Ollama, llama.cpp, DeepSeek, Together and others.

Such servers differ in what they leave out; what they share is plain: every content is a string.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from agentmesh import canonical
from agentmesh.providers.blocks import Block, compact, read, to_answer
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
from agentmesh.providers.wire import joined, once, unknown_message

REASONING = ("reasoning_content", "reasoning")
"""The fields that servers put a model's reasoning in."""

_CHOICES = {"auto": "auto", "any": "required", "required": "required", "none": "none"}


class CompatibleModel(ChatModel):
    """A model behind a Chat Completions server, on the `openai` SDK; it needs a `base_url`.

    >>> CompatibleModel(model="qwen3-8b", base_url="http://127.0.0.1:8000/v1").model_name
    'openai-compatible:qwen3-8b'
    """

    alternate: bool = False
    """Merge what follows one another from the user's side, for templates that insist on it."""
    replay_reasoning: bool = True
    """Send a model's reasoning back to it, in the field that it came in."""

    vendor: ClassVar[str] = "openai-compatible"
    key_variable: ClassVar[str] = ""
    sdk: ClassVar[Literal["anthropic", "openai"]] = "openai"
    path: ClassVar[str] = "/chat/completions"
    reserved: ClassVar[frozenset[str]] = frozenset(
        {"model", "messages", "tools", "stream", "stream_options"}
    )

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
        """Return the body of a Chat Completions request; marks mean nothing here."""
        body: dict[str, Any] = {"model": self.model, **self._fields(extra)}
        if stop:
            body["stop"] = list(stop)
        if tools:
            body["tools"] = [_tool(tool["function"]) for tool in as_tools(tools)]
            if tool_choice is not None:
                body["tool_choice"] = _choice(tool_choice)
        body["messages"] = self._messages(messages)
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return body

    def _messages(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        ids = CallIds()
        system = ""
        sent: list[dict[str, Any]] = []
        key = ("chat", self.model_name, self.replay_reasoning)
        for message in messages:
            wire = once(message, key, self._wire)
            if wire is None:
                continue
            role, text = wire["role"], wire["content"]
            if role == "system" and not sent:
                system = f"{system}\n\n{text}" if system else text
            elif self._merges(role) and sent and sent[-1]["role"] == role:
                sent[-1] = {**sent[-1], "content": f"{sent[-1]['content']}\n\n{text}"}
            else:
                sent.append(_with_ids(wire, ids))
        return [{"role": "system", "content": system}, *sent] if system else sent

    def _merges(self, role: str) -> bool:
        return self.alternate and role in ("user", "system")

    def _wire(self, message: BaseMessage) -> dict[str, Any] | None:
        """Return a message for the wire; calls and results still bear the log's ids."""
        if isinstance(message, AIMessage):
            return self._answer(message)
        if not isinstance(message, (HumanMessage, SystemMessage, ToolMessage)):
            raise unknown_message(message)
        text = joined(message)
        if isinstance(message, ToolMessage):
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": text}
        role = "system" if isinstance(message, SystemMessage) else "user"
        return {"role": role, "content": text} if text else None

    def _answer(self, message: AIMessage) -> dict[str, Any] | None:
        texts, calls = [], []
        answer: dict[str, Any] = {"role": "assistant", "content": None}
        for block in read(message):
            if block["type"] == "call":
                function = {"name": block["name"], "arguments": block["arguments"]}
                calls.append({"id": block["id"], "type": "function", "function": function})
            elif block["type"] == "opaque":
                if block["model"] == self.model_name and self.replay_reasoning:
                    answer[block["data"]["field"]] = block["data"]["text"]
            elif block["text"].strip():
                texts.append(block["text"])
        if texts:
            answer["content"] = "\n\n".join(texts)
        if calls:
            answer["tool_calls"] = calls
        return answer if texts or calls else None

    def _reader(self) -> Reader:
        return _CompletionsReader(self.model_name)

    def _parse(self, value: dict[str, Any], request_id: str) -> AIMessage:
        choice = _choice_of(value, self.model_name)
        if choice is None:
            raise failure("api", self.model_name, "sent an answer without choices")
        message = choice.get("message") or {}
        told = log_odds((choice.get("logprobs") or {}).get("content"))
        metadata = _metadata(value, choice, told, refused=bool(message.get("refusal")))
        if request_id:
            metadata["request_id"] = request_id
        usage = value.get("usage")
        return to_answer(
            _blocks(message, str(value.get("id")), self.model_name),
            usage_metadata=from_openai(usage) if usage else None,
            response_metadata=metadata,
        )


def _with_ids(message: dict[str, Any], ids: CallIds) -> dict[str, Any]:
    """Return a message with the wire's ids; the same message where the log's ids can stand."""
    if message["role"] == "tool":
        id = ids.result(message["tool_call_id"])
        return message if message["tool_call_id"] == id else {**message, "tool_call_id": id}
    calls = message.get("tool_calls") or ()
    wire = [ids.call(call["id"]) for call in calls]
    if wire == [call["id"] for call in calls]:
        return message
    renamed = [{**call, "id": id} for call, id in zip(calls, wire, strict=True)]
    return {**message, "tool_calls": renamed}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        described["description"] = function["description"]
    described["parameters"] = schema_of(function)
    if function.get("strict"):
        described["strict"] = True
    return {"type": "function", "function": described}


def _choice(tool_choice: Any) -> Any:
    if isinstance(tool_choice, dict):
        return tool_choice
    if tool_choice is True:
        return "required"
    named = {"type": "function", "function": {"name": str(tool_choice)}}
    return _CHOICES.get(tool_choice) or named


def _choice_of(value: Mapping[str, Any], model: str) -> dict[str, Any] | None:
    if isinstance(value.get("error"), Mapping):
        raise told_failure(model, value["error"])
    choices = value.get("choices")
    return dict(choices[0]) if choices else None


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return str(content or "")


def _reasoning(message: Mapping[str, Any]) -> tuple[str, str]:
    return next(
        ((field, text) for field in REASONING if isinstance(text := message.get(field), str)),
        ("", ""),
    )


def _call_id(call: Mapping[str, Any], answer: str, number: int) -> str:
    """Return a call's id, or one made from the answer's where a server gives none."""
    return str(call.get("id") or f"call_{canonical.sha(f'{answer} {number}')[:24]}")


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    return arguments if isinstance(arguments, str) else compact(arguments or {})


def _blocks(message: Mapping[str, Any], answer: str, model: str) -> list[Block]:
    blocks: list[Block] = []
    field, reasoning = _reasoning(message)
    if reasoning:
        data = {"field": field, "text": reasoning}
        blocks.append({"type": "opaque", "model": model, "data": data})
    text = _text_of(message.get("content"))
    if text:
        blocks.append({"type": "text", "text": text})
    if message.get("refusal"):
        blocks.append({"type": "refusal", "text": message["refusal"]})
    for number, call in enumerate(message.get("tool_calls") or ()):
        blocks.append(
            {
                "type": "call",
                "id": _call_id(call, answer, number),
                "name": call["function"]["name"],
                "arguments": _arguments(call["function"]) or "{}",
            }
        )
    return blocks


def _metadata(
    value: Mapping[str, Any], choice: Mapping[str, Any], odds: list[float], *, refused: bool
) -> dict[str, Any]:
    metadata = {
        "id": value.get("id"),
        "model_name": value.get("model"),
        "model_provider": "openai",
        "stop_reason": "refusal" if refused else choice.get("finish_reason"),
        "system_fingerprint": value.get("system_fingerprint"),
        "logprob": mean(odds),
    }
    return {name: found for name, found in metadata.items() if found is not None}


class _CompletionsReader(Reader):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._calls: list[tuple[Any, str]] = []  # a server's index and id of each call
        self._silent: set[int] = set()  # calls of which no argument was heard
        self._refused = False
        self._odds: list[float] = []

    def feed(self, event: dict[str, Any]) -> Iterator[AIMessageChunk]:
        if event.get("usage"):
            self.usage = from_openai(event["usage"])
        choice = _choice_of(event, self.model)
        if choice is None:
            return
        self._odds += log_odds((choice.get("logprobs") or {}).get("content"))
        delta = choice.get("delta") or {}
        yield from self._said(delta)
        for call in delta.get("tool_calls") or ():
            yield from self._called(call, str(event.get("id")))
        if choice.get("finish_reason"):
            for number in sorted(self._silent):
                yield self.call(self.at(number), "{}")
            self._silent.clear()
            self.done = True
            self.metadata = _metadata(event, choice, self._odds, refused=self._refused)

    def _said(self, delta: Mapping[str, Any]) -> Iterator[AIMessageChunk]:
        field, reasoning = _reasoning(delta)
        if reasoning:
            data = {"text": reasoning}
            model = None if self.has("reasoning") else self.model
            if model:
                data["field"] = field
            yield reasoning_chunk(self.at("reasoning"), reasoning, model=model, data=data)
        text = _text_of(delta.get("content"))
        if text:
            yield text_chunk(self.at("text"), text)
        if delta.get("refusal"):
            self._refused = True
            yield refusal_chunk(self.at("refusal"), delta["refusal"])

    def _called(self, call: Mapping[str, Any], answer: str) -> Iterator[AIMessageChunk]:
        function = call.get("function") or {}
        number = self._number(call, function)
        arguments = _arguments(function) if function.get("arguments") else ""
        if number == len(self._calls):
            call_id = _call_id(call, answer, number)
            self._calls.append((call.get("index"), call_id))
            self._silent.add(number)
            yield self.call(
                self.at(number), arguments, call_id=call_id, name=str(function.get("name") or "")
            )
        elif arguments:
            yield self.call(self.at(number), arguments)
        if arguments:
            self._silent.discard(number)

    def _number(self, call: Mapping[str, Any], function: Mapping[str, Any]) -> int:
        """Return which call a delta belongs to; some servers give all calls the same index."""
        for number in reversed(range(len(self._calls))):
            index, call_id = self._calls[number]
            named_anew = function.get("name") and call.get("id") not in (None, "", call_id)
            if index == call.get("index") and not named_anew:
                return number
        return len(self._calls)
