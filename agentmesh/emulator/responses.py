"""OpenAI's Responses API: its responses, its events, its errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as numbers
from typing import Any

from agentmesh.emulator import openai
from agentmesh.emulator.brain import Api, Call
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.responses_request import Reader
from agentmesh.emulator.wire import Event, Parsed, Reply, chunks, signature


class Responses:
    """The dialect of `POST /v1/responses`."""

    api: Api = "responses"
    call_prefix = "call_"
    id_prefix = "resp_"

    def parse(self, raw: dict[str, Any], key: str, betas: frozenset[str] = frozenset()) -> Parsed:
        """Return the request, or raise the refusal that OpenAI would answer with."""
        return Reader(raw, key).read()

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
