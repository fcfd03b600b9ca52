"""The emulator's HTTP: its routes, and faults that happen on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentmesh.economy.billing import Clock
from agentmesh.economy.tokens import count
from agentmesh.emulator.anthropic import Messages
from agentmesh.emulator.brain import Fault
from agentmesh.emulator.chat import Chat
from agentmesh.emulator.refusal import Refusal
from agentmesh.emulator.responses import Responses
from agentmesh.emulator.service import Prepared, Service
from agentmesh.emulator.tuning import Tuning, TuningFaults
from agentmesh.emulator.wire import Dialect, Event, compact

MAX_BODY = 32 * 1024 * 1024
"""Bytes of the largest request that is read."""


class _ResetError(Exception):
    """The connection is to be reset here."""


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return compact(content).encode("utf-8", "replace")


class Endpoint:
    """One API's route."""

    def __init__(self, service: Service, dialect: Dialect, clock: Clock, latency_s: float) -> None:
        self._service = service
        self._dialect = dialect
        self._clock = clock
        self._latency_s = latency_s
        self._number = 0

    async def __call__(self, request: HttpRequest) -> Response:
        """Answer a request in the API's own form."""
        self._number += 1
        request_id = f"req_{self._number:012d}"
        at = self._clock()
        key = _key(request)
        raw: Any = None
        try:
            raw = await _body(request)
            self._service.admit(key, self._dialect)
            parsed = self._service.read(self._dialect, raw, key, _betas(request))
            prepared = await self._service.prepare(self._dialect, parsed, at)
        except Refusal as refusal:
            self._service.refuse(self._dialect, raw, key, refusal, request_id, at)
            return self._refused(refusal, request_id)
        fault = prepared.fault
        wait_s = self._latency_s + (fault.delay_s if fault and fault.kind == "delay" else 0.0)
        if wait_s:
            await asyncio.sleep(wait_s)
        if fault and fault.kind in ("reset", "cut", "error", "drip"):
            return self._faulty(prepared, fault, request_id)
        self._service.begin(prepared)
        self._service.charge(prepared)
        headers = {"request-id": request_id, "x-request-id": request_id}
        if not parsed.stream:
            return _Json(self._dialect.body(prepared.reply), headers=headers)
        events = self._dialect.events(prepared.reply)
        content = b"".join(map(self._dialect.encode, events))
        return Response(content, media_type="text/event-stream", headers=headers)

    def _refused(self, refusal: Refusal, request_id: str) -> Response:
        headers = {"request-id": request_id, "x-request-id": request_id}
        if refusal.retry_after_s is not None:
            headers["retry-after"] = f"{refusal.retry_after_s:g}"
        body = self._dialect.error(refusal, request_id)
        return _Json(body, status_code=refusal.status, headers=headers)

    def _faulty(self, prepared: Prepared, fault: Fault, request_id: str) -> Response:
        if prepared.parsed.stream:
            return StreamingResponse(
                self._faulty_events(prepared, fault), media_type="text/event-stream"
            )
        if fault.kind == "error":
            refusal = Refusal(fault.message or "Overloaded", status=fault.status)
            parsed = prepared.parsed.request
            self._service.refuse(
                self._dialect, parsed.raw, parsed.key, refusal, request_id, prepared.at
            )
            return self._refused(refusal, request_id)
        body = compact(self._dialect.body(prepared.reply)).encode()
        return StreamingResponse(
            self._faulty_body(prepared, fault, body), media_type="application/json"
        )

    async def _faulty_body(
        self, prepared: Prepared, fault: Fault, body: bytes
    ) -> AsyncIterator[bytes]:
        if fault.kind == "reset":
            raise _ResetError
        self._service.begin(prepared)
        self._service.charge(prepared)
        if fault.kind == "cut":
            yield body[: len(body) // 2]
            return
        step = -(-len(body) // 8)
        for start in range(0, len(body), step):
            yield body[start : start + step]
            await asyncio.sleep(fault.delay_s)

    async def _faulty_events(self, prepared: Prepared, fault: Fault) -> AsyncIterator[bytes]:
        events = list(self._dialect.events(prepared.reply))
        last = _first_closing(events)
        stop = min(last, len(events) // 2 if fault.after is None else fault.after)
        if fault.kind == "reset" and stop == 0:
            raise _ResetError
        self._service.begin(prepared)
        if fault.kind == "drip":
            self._service.charge(prepared)
            for event in events:
                yield self._dialect.encode(event)
                await asyncio.sleep(fault.delay_s)
            return
        sent = events[:stop]
        self._service.charge(prepared, count("".join(event.text for event in sent)))
        for event in sent:
            yield self._dialect.encode(event)
        if fault.kind == "reset":
            await asyncio.sleep(0.01)
            raise _ResetError
        if fault.kind == "error":
            refusal = Refusal(fault.message or "Overloaded", status=fault.status)
            yield self._dialect.encode(self._dialect.error_event(refusal))


def _first_closing(events: list[Event]) -> int:
    """Return the index of the first event that tells how the answer ended."""
    for index, event in enumerate(events):
        body = event.body
        if event.name in ("message_delta", "response.completed", "response.incomplete"):
            return index
        if body.get("choices") and body["choices"][0].get("finish_reason"):
            return index
    return len(events) - 1


def _key(request: HttpRequest) -> str:
    key = request.headers.get("x-api-key", "")
    if not key:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token if scheme.lower() == "bearer" else ""
    return key.strip()


def _betas(request: HttpRequest) -> frozenset[str]:
    named = ",".join(request.headers.getlist("anthropic-beta"))
    return frozenset(name.strip() for name in named.split(","))


async def _body(request: HttpRequest) -> Any:
    if int(request.headers.get("content-length") or 0) > MAX_BODY:
        raise Refusal("Request exceeds the maximum size", status=413)
    content = await request.body()
    try:
        return json.loads(content)
    except ValueError as error:
        raise Refusal(f"The request body is not valid JSON: {error}") from error


class _Resettable:
    """Lets a response end in a reset of its connection, and keeps the server quiet about it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def late(message: Message) -> None:
            # the head waits for the first bytes, so that a reset can come before it
            if message["type"] == "http.response.start":
                held.append(message)
                return
            while held:
                await send(held.pop(0))
            await send(message)

        try:
            await self._app(scope, receive, late)
        except _ResetError:
            cycle: Any = send.__self__  # type: ignore[attr-defined]  # uvicorn's own object
            sock = cycle.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            cycle.transport.abort()
            while not cycle.disconnected:  # or uvicorn would complain of a missing response
                await asyncio.sleep(0.001)


def application(
    service: Service,
    clock: Clock = time.time,
    latency_s: float = 0.0,
    faults: TuningFaults | None = None,
) -> ASGIApp:
    """Return the ASGI application that serves `service`."""
    dialects: Mapping[str, Dialect] = {
        "/v1/messages": Messages(),
        "/v1/responses": Responses(),
        "/v1/chat/completions": Chat(),
    }

    async def count_tokens(request: HttpRequest) -> Response:
        dialect = dialects["/v1/messages"]
        try:
            raw = await _body(request)
            service.admit(_key(request), dialect)
            if isinstance(raw, dict):
                raw = {"max_tokens": 1, **raw}
            parsed = service.read(dialect, raw, _key(request), _betas(request))
        except Refusal as refusal:
            return _Json(dialect.error(refusal, "req_count"), status_code=refusal.status)
        return _Json({"input_tokens": sum(block.tokens for block in parsed.blocks)})

    async def models(request: HttpRequest) -> Response:
        rows = [
            {
                "id": name,
                "object": "model",
                "type": "model",
                "created": 0,
                "created_at": "1970-01-01T00:00:00Z",
                "display_name": name,
                "owned_by": "emulator",
            }
            for name in service.model_names()
        ]
        ids = [row["id"] for row in rows]
        return _Json(
            {
                "object": "list",
                "data": rows,
                "has_more": False,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
            }
        )

    async def bills(request: HttpRequest) -> Response:
        return _Json([bill.as_dict() for bill in list(service.bills)])

    async def reset(request: HttpRequest) -> Response:
        service.reset()
        return JSONResponse({"reset": True})

    routes = [
        *(
            Route(path, Endpoint(service, dialect, clock, latency_s).__call__, methods=["POST"])
            for path, dialect in dialects.items()
        ),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        Route("/v1/models", models),
        *Tuning(clock, service.tuned, faults or TuningFaults()).routes(),
        Route("/emulator/bills", bills),
        Route("/emulator/reset", reset, methods=["POST"]),
    ]
    return _Resettable(Starlette(routes=routes))
