"""OpenAI's Chat Completions API, as OpenAI and compatible servers answer it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentmesh.emulator import openai
from agentmesh.emulator.brain import Api, Call
from agentmesh.emulator.chat_request import Reader, compatible
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.wire import Event, Parsed, Reply, chunks, compact

_FINISH = {"end": "stop", "tools": "tool_calls", "length": "length", "refusal": "stop"}


class Chat:
    """The dialect of `POST /v1/chat/completions`."""

    api: Api = "chat"
    call_prefix = "call_"
    id_prefix = "chatcmpl-"

    def parse(self, raw: dict[str, Any], key: str, betas: frozenset[str] = frozenset()) -> Parsed:
        """Return the request, or raise the refusal that the server would answer with."""
        return Reader(raw, key).read()

    def body(self, reply: Reply) -> dict[str, Any]:
        """Return the completion."""
        refused = reply.stop == "refusal"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if refused or (reply.calls and not reply.text) else reply.text,
            "refusal": (reply.text or "I'm sorry, I can't help with that.") if refused else None,
            "annotations": [],
        }
        if reply.calls:
            message["tool_calls"] = [_call(call) for call in reply.calls]
        if reply.reasoning and compatible(reply.model):
            message["reasoning_content"] = reply.reasoning
        choice = {"index": 0, "message": message, "logprobs": None}
        choice["finish_reason"] = _FINISH[reply.stop]
        head = _head(reply, "chat.completion")
        usage = {} if reply.untold else {"usage": _usage(reply)}
        return {**head, "choices": [choice], **usage, **reply.extra}

    def events(self, reply: Reply) -> Iterator[Event]:
        """Yield the chunks: role, deltas, finish reason, usage if asked for, and [DONE]."""
        yield _chunk(reply, {"role": "assistant", "content": "", "refusal": None})
        if reply.reasoning and compatible(reply.model):
            for text in chunks(reply.reasoning):
                yield _chunk(reply, {"reasoning_content": text}, text=text)
        field = "refusal" if reply.stop == "refusal" else "content"
        for text in chunks(reply.text):
            yield _chunk(reply, {field: text}, text=text)
        for index, call in enumerate(reply.calls):
            first = {"index": index, **_call(call)}
            first["function"] = {"name": call.name, "arguments": ""}
            yield _chunk(reply, {"tool_calls": [first]}, text=call.name)
            for text in chunks(call.arguments):
                part = {"index": index, "function": {"arguments": text}}
                yield _chunk(reply, {"tool_calls": [part]}, text=text)
        yield _chunk(reply, {}, finish=_FINISH[reply.stop])
        if reply.with_usage and not reply.untold:
            head = _head(reply, "chat.completion.chunk")
            yield Event("chunk", {**head, "choices": [], "usage": _usage(reply)})
        yield Event("[DONE]", {})

    def error(self, refusal: Refusal, request_id: str) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return openai.error(refusal)

    def error_event(self, refusal: Refusal) -> Event:
        """Return an error as servers put it into a stream."""
        return Event("error", openai.error(refusal))

    def encode(self, event: Event) -> bytes:
        """Return the event, which has no name on this wire."""
        if event.name == "[DONE]":
            return b"data: [DONE]\n\n"
        return f"data: {compact(event.body)}\n\n".encode()

    def overflow(self, tokens: int, window: int) -> Refusal:
        """Return the refusal of a prompt that is too long."""
        return Refusal(
            f"This model's maximum context length is {window} tokens. However, your messages "
            f"resulted in {tokens} tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": reply.id,
        "object": kind,
        "created": int(reply.at),
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    used = reply.usage
    prompt = {"cached_tokens": used.read, "audio_tokens": 0}
    if used.write or used.write_long:
        prompt["cache_write_tokens"] = used.write + used.write_long
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": used.reasoning, "audio_tokens": 0},
    }


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _chunk(
    reply: Reply, delta: dict[str, Any], *, text: str = "", finish: str | None = None
) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {**_head(reply, "chat.completion.chunk"), "choices": [choice]}
    if reply.with_usage:
        body["usage"] = None
    return Event("chunk", body, text)
