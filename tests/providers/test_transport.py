"""Over real HTTP: exact bytes, one request per call, typed failures, one deadline, no secrets."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.messages import AIMessage, HumanMessage

from agentmesh.errors import InputError, TierError
from agentmesh.providers import ChatModel, connect
from agentmesh.providers.failures import retry_after
from agentmesh.providers.transport import encode

NAMES = ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai-compatible:qwen3-8b"]
SECRET = "sk-very-secret-0123456789"
ASK = [HumanMessage("Wo ist mein Päckchen? 📦")]

WHOLE: dict[str, dict[str, Any]] = {
    NAMES[0]: {
        "type": "message",
        "id": "msg_1",
        "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
    NAMES[1]: {
        "id": "resp_1",
        "model": "gpt-6.1-sol",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
    NAMES[2]: {
        "id": "c1",
        "model": "qwen3-8b",
        "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    },
}

EVENTS: dict[str, list[dict[str, Any]]] = {
    NAMES[0]: [
        {"type": "message_start", "message": {**WHOLE[NAMES[0]], "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ],
    NAMES[1]: [
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hello",
        },
        {"type": "response.completed", "response": WHOLE[NAMES[1]]},
    ],
    NAMES[2]: [
        {"id": "c1", "choices": [{"index": 0, "delta": {"content": "Hello"}}]},
        {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
}


def model(name: str, url: str, **fields: Any) -> ChatModel:
    base_url = url if name.startswith("anthropic") else f"{url}/v1"
    return connect(name, base_url=base_url, api_key=SECRET, **fields)


def invoke(chat: ChatModel, **fields: Any) -> AIMessage:
    return chat.invoke(ASK, **fields)


def stream(chat: ChatModel, **fields: Any) -> AIMessage:
    first, *rest = chat.stream(ASK, **fields)
    return first + rest if rest else first


def ainvoke(chat: ChatModel, **fields: Any) -> AIMessage:
    return asyncio.run(chat.ainvoke(ASK, **fields))


def astream(chat: ChatModel, **fields: Any) -> AIMessage:
    async def collect() -> AIMessage:
        first, *rest = [chunk async for chunk in chat.astream(ASK, **fields)]
        return first + rest if rest else first

    return asyncio.run(collect())


WAYS = [invoke, stream, ainvoke, astream]
Way = Callable[..., AIMessage]


def good(name: str, way: Way, canned_json: Any, canned_events: Any) -> Any:
    if way in (invoke, ainvoke):
        return canned_json(WHOLE[name], headers={"request-id": "req_7"})
    named = name != NAMES[2]
    return canned_events(EVENTS[name], named=named, headers={"x-request-id": "req_7"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_sent_is_the_body(
    name: str, way: Way, vendor: Any, canned_json: Any, canned_events: Any
) -> None:
    vendor.says(good(name, way, canned_json, canned_events))
    chat = model(name, vendor.url)
    message = way(chat)
    assert message.text == "Hello"
    assert message.response_metadata["request_id"] == "req_7"
    (sent,) = vendor.requests
    assert sent.body == encode(chat.body(ASK, stream=way in (stream, astream)))
    assert sent.headers["content-type"] == "application/json"
    key = sent.headers.get("x-api-key") or sent.headers["authorization"].removeprefix("Bearer ")
    assert key == SECRET


def test_own_headers_are_sent(vendor: Any, canned_json: Any) -> None:
    vendor.says(canned_json(WHOLE[NAMES[0]]))
    invoke(model(NAMES[0], vendor.url, headers={"anthropic-beta": "some-beta"}))
    assert vendor.requests[0].headers["anthropic-beta"] == "some-beta"


@pytest.mark.parametrize("name", NAMES)
def test_connections_are_reused(name: str, vendor: Any, canned_json: Any) -> None:
    vendor.says(canned_json(WHOLE[name]))
    chat = model(name, vendor.url)
    for _ in range(3):
        invoke(chat)

    async def thrice() -> None:
        for _ in range(3):
            await chat.ainvoke(ASK)

    asyncio.run(thrice())
    asyncio.run(thrice())  # a second event loop gets connections of its own
    assert [r.connection for r in vendor.requests].count(vendor.requests[0].connection) == 3
    assert len({r.connection for r in vendor.requests}) == 3
    chat.close()
    invoke(chat)
    assert len({r.connection for r in vendor.requests}) == 4


def anthropic_error(kind: str, message: str = "no") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def openai_error(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


TOO_LONG = "This model's maximum context length is 10 tokens"
QUOTA = "insufficient_quota"
STATUSES = [
    (NAMES[0], 400, anthropic_error("invalid_request_error"), "invalid_request", False),
    (NAMES[0], 400, anthropic_error("invalid_request_error", "prompt is too long: 9"),
     "context_overflow", False),
    (NAMES[0], 401, anthropic_error("authentication_error"), "auth", False),
    (NAMES[0], 402, anthropic_error("billing_error"), "auth", False),
    (NAMES[0], 403, anthropic_error("permission_error"), "auth", False),
    (NAMES[0], 404, anthropic_error("not_found_error"), "not_found", False),
    (NAMES[0], 408, anthropic_error("timeout_error"), "timeout", True),
    (NAMES[0], 409, anthropic_error("conflict_error"), "api", True),
    (NAMES[0], 413, anthropic_error("request_too_large"), "context_overflow", False),
    (NAMES[0], 429, anthropic_error("rate_limit_error"), "rate_limit", True),
    (NAMES[0], 500, anthropic_error("api_error"), "api", True),
    (NAMES[0], 529, anthropic_error("overloaded_error"), "overloaded", True),
    (NAMES[1], 400, openai_error(TOO_LONG, code="context_length_exceeded"),
     "context_overflow", False),
    (NAMES[1], 404, openai_error(code="model_not_found"), "not_found", False),
    (NAMES[1], 429, openai_error(code=QUOTA, type=QUOTA), "rate_limit", False),
    (NAMES[1], 429, openai_error(code="rate_limit_exceeded"), "rate_limit", True),
    (NAMES[1], 503, openai_error(), "overloaded", True),
    (NAMES[2], 400, openai_error(TOO_LONG, code=400, type="BadRequestError"),
     "context_overflow", False),
    (NAMES[2], 422, {"detail": "what?"}, "invalid_request", False),
    (NAMES[2], 502, "<html>bad gateway</html>", "api", True),
    (NAMES[2], 504, "", "timeout", True),
]  # fmt: skip

CLASSES = {
    "invalid_request": ModelInvalidRequestError,
    "context_overflow": ContextOverflowError,
    "auth": ModelAuthenticationError,
    "not_found": ModelNotFoundError,
    "timeout": ModelTimeoutError,
    "rate_limit": ModelRateLimitError,
    "api": ModelAPIError,
    "overloaded": ModelAPIError,
}


@pytest.mark.parametrize("way", [invoke, astream])
@pytest.mark.parametrize(("name", "status", "body", "kind", "retryable"), STATUSES)
def test_every_status_is_a_typed_failure_of_one_request(
    name: str,
    status: int,
    body: Any,
    kind: str,
    retryable: bool,
    way: Way,
    vendor: Any,
    canned_json: Any,
) -> None:
    vendor.says(canned_json(body, status=status, headers={"retry-after": "1.5"}))
    with pytest.raises(TierError) as caught:
        way(model(name, vendor.url))
    error = caught.value
    assert (error.kind, error.retryable, error.status) == (kind, retryable, status)
    assert error.retry_after_s == 1.5
    assert isinstance(error, ModelPermissionDeniedError if status == 403 else CLASSES[kind])
    assert error.is_retryable == retryable
    assert error.hint
    assert "\n" not in str(error)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    ("name", "event", "kind"),
    [
        (NAMES[0], anthropic_error("overloaded_error"), "overloaded"),
        (NAMES[0], anthropic_error("api_error"), "api"),
        (NAMES[1], {"type": "error", "code": "rate_limit_exceeded", "message": "no"}, "rate_limit"),
        (
            NAMES[1],
            {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
            "api",
        ),
        (NAMES[2], openai_error(type="server_error"), "api"),
    ],
)
@pytest.mark.parametrize("way", [stream, astream])
def test_an_error_in_mid_stream_is_a_failure(
    name: str, event: dict[str, Any], kind: str, way: Way, vendor: Any, canned_events: Any
) -> None:
    events = [*EVENTS[name][:-1], event]
    vendor.says(canned_events(events, named=name != NAMES[2]))
    with pytest.raises(TierError) as caught:
        way(model(name, vendor.url))
    assert caught.value.kind == kind
    assert caught.value.retryable


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [stream, astream])
@pytest.mark.parametrize("how", ["clean", "chunked", "reset"])
def test_a_cut_stream_is_never_an_answer(
    name: str, way: Way, how: str, vendor: Any, canned: Any, canned_events: Any
) -> None:
    half = canned_events(EVENTS[name][:-1], named=name != NAMES[2]).body
    half = half.replace(b"data: [DONE]\n\n", b"")

    def write(handler: BaseHTTPRequestHandler) -> None:
        if how != "clean":
            handler.send_header("transfer-encoding", "chunked")
        else:
            handler.send_header("connection", "close")
        handler.end_headers()
        if how == "clean":
            handler.wfile.write(half)
            return
        handler.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
        handler.wfile.flush()
        if how == "reset":
            time.sleep(0.05)
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()

    vendor.says(canned(kind="text/event-stream", write=write))
    with pytest.raises(TierError) as caught:
        way(model(name, vendor.url))
    assert caught.value.kind == "cut_stream"
    assert isinstance(caught.value, ModelConnectionError)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_a_dripping_answer_ends_at_the_deadline(
    name: str, way: Way, vendor: Any, canned: Any
) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_header("connection", "close")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(
                    b"event: ping\ndata: {}\n\n" if "stream" in way.__name__ else b" "
                )
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return

    kind = "text/event-stream" if "stream" in way.__name__ else "application/json"
    vendor.says(canned(kind=kind, write=drip))
    chat = model(name, vendor.url)
    assert chat._connected().sdk, "its import is not part of the call"
    started = time.monotonic()
    with pytest.raises(TierError) as caught:
        way(chat, timeout_s=0.4)
    assert caught.value.kind == "timeout"
    assert caught.value.retryable
    assert time.monotonic() - started < 3, "the body would have dripped for five seconds"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_stands_still_ends_at_the_deadline(
    name: str, way: Way, vendor: Any, canned: Any
) -> None:
    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_header("connection", "close")
        handler.end_headers()
        for _ in range(8):
            handler.wfile.write(b"\n")
            handler.wfile.flush()
            time.sleep(0.3)
        time.sleep(1.5)

    kind = "text/event-stream" if "stream" in way.__name__ else "application/json"
    vendor.says(canned(kind=kind, write=stall))
    chat = model(name, vendor.url)
    assert chat._connected().sdk, "its import is not part of the call"
    started = time.monotonic()
    with pytest.raises(ModelTimeoutError):
        way(chat, timeout_s=0.9)
    assert time.monotonic() - started < 2.4, "each read may wait 0.9 s, all together no more"


@pytest.mark.parametrize("way", WAYS)
def test_silence_ends_at_the_deadline(way: Way, vendor: Any, canned: Any) -> None:
    def wait(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(1.0)

    vendor.says(canned(write=wait))
    with pytest.raises(ModelTimeoutError):
        way(model(NAMES[0], vendor.url, timeout_s=0.2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [invoke, ainvoke, stream])
def test_nobody_listens(name: str, way: Way) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TierError) as caught:
        way(model(name, f"http://127.0.0.1:{port}"))
    assert caught.value.kind == "connection"
    assert caught.value.retryable


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"<html>login</html>", b"[1]", b'{"id": "x"}', b'{"id"'])
def test_an_answer_of_something_else_is_a_failure(
    name: str, body: bytes, vendor: Any, canned: Any
) -> None:
    vendor.says(canned(body=body))
    with pytest.raises(TierError) as caught:
        invoke(model(name, vendor.url))
    assert caught.value.kind == "api"


@pytest.mark.parametrize("name", NAMES)
def test_a_garbled_event_is_a_failure(name: str, vendor: Any, canned: Any) -> None:
    vendor.says(canned(body=b"event: message_start\ndata: {oops\n\n", kind="text/event-stream"))
    with pytest.raises(TierError) as caught:
        stream(model(name, vendor.url))
    assert caught.value.kind == "api"


@pytest.mark.parametrize("name", NAMES)
def test_secrets_stay_secret(
    name: str, vendor: Any, canned_json: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = openai_error(f"Incorrect API key provided: {SECRET}")
    vendor.says(canned_json(told, status=401))
    chat = model(name, vendor.url)
    with pytest.raises(TierError) as caught:
        invoke(chat)
    bound = chat.bind_tools([])
    seen = [repr(chat), str(chat), repr(bound), repr(caught.value), str(caught.value.args)]
    seen += [
        caplog.text,
        str(chat._identifying_params),
        str(chat._serialized),
        str(vars(caught.value)),
    ]
    assert all(SECRET not in text for text in seen)
    assert caught.value.__suppress_context__
    assert "***" in str(caught.value)


def test_a_key_in_a_header_of_ones_own_is_a_secret_too(vendor: Any, canned_json: Any) -> None:
    vendor.says(canned_json(anthropic_error("api_error", "bad token gw-token-42"), status=500))
    with pytest.raises(TierError) as caught:
        invoke(model(NAMES[0], vendor.url, headers={"x-gateway": "gw-token-42"}))
    assert "bad token ***" in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_is_not_followed(way: Way, vendor: Any, canned: Any) -> None:
    vendor.says(canned(status=307, headers={"location": f"{vendor.url}/elsewhere"}))
    with pytest.raises(TierError) as caught:
        way(model(NAMES[0], vendor.url))
    assert (caught.value.kind, caught.value.status) == ("api", 307)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("timeout_s", [0, -1.5])
@pytest.mark.parametrize("way", WAYS)
def test_without_time_left_nothing_is_sent(way: Way, timeout_s: float, vendor: Any) -> None:
    with pytest.raises(ModelTimeoutError, match="no time was left"):
        way(model(NAMES[1], vendor.url), timeout_s=timeout_s)
    assert vendor.requests == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800"])
def test_what_is_not_json_is_refused_before_it_is_sent(value: Any, vendor: Any) -> None:
    with pytest.raises(InputError, match="not JSON"):
        invoke(model(NAMES[2], vendor.url), seed=value)
    assert vendor.requests == []


def test_a_dropped_stream_closes_its_connection(vendor: Any, canned_events: Any) -> None:
    vendor.says(canned_events(EVENTS[NAMES[0]]))
    chat = model(NAMES[0], vendor.url)
    chunks = chat.stream(ASK)
    next(chunks)
    chunks.close()
    assert stream(chat).text == "Hello"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        (
            {
                "retry-after": "Tue, 24 Nov 2026 18:00:30 GMT",
                "date": "Tue, 24 Nov 2026 18:00:00 GMT",
            },
            30.0,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
