"""Anthropic's Messages API: its responses, its events, its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agentmesh.emulator.anthropic_request import Reader
from agentmesh.emulator.brain import Api, Call
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.wire import Event, Parsed, Reply, chunks, compact, signature

_STOPS = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}


class Messages:
    """The dialect of `POST /v1/messages`."""

    api: Api = "messages"
    call_prefix = "toolu_"
    id_prefix = "msg_"

    def parse(self, raw: dict[str, Any], key: str, betas: frozenset[str] = frozenset()) -> Parsed:
        """Return the request, or raise the refusal that Anthropic would answer with."""
        return Reader(raw, key, betas).read()

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
        error: dict[str, Any] = {"type": refusal.kind, "message": refusal.message}
        if refusal.code and refusal.status == 400:
            error["details"] = {"error_code": refusal.code}
        return {"type": "error", "error": error, "request_id": request_id}

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
