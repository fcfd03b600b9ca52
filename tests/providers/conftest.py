"""A vendor made of canned answers, served over real HTTP: what it was sent, and what it says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Canned:
    """One answer; `write` takes over the connection after the headers."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    write: Callable[[BaseHTTPRequestHandler], None] | None = None


@dataclass
class Sent:
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Vendor:
    """Answers requests in the order of `answers`; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: list[Canned] = []
        self.requests: list[Sent] = []
        self._lock = threading.Lock()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                vendor._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def says(self, *answers: Canned) -> None:
        self.answers = list(answers)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append(Sent(handler.path, headers, body, handler.client_address[1]))
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        handler.send_response(answer.status)
        handler.send_header("content-type", answer.kind)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.write is None:
            handler.send_header("content-length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)
            return
        handler.close_connection = True
        answer.write(handler)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    server = Vendor()
    yield server
    server.close()


def as_json(value: Any, **fields: Any) -> Canned:
    return Canned(body=json.dumps(value).encode(), **fields)


def as_events(events: list[dict[str, Any]], *, named: bool = True, **fields: Any) -> Canned:
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        lines.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n")
    if not named:
        lines.append("data: [DONE]\n\n")
    return Canned(body="".join(lines).encode(), kind="text/event-stream", **fields)


@pytest.fixture
def canned_json() -> Callable[..., Canned]:
    return as_json


@pytest.fixture
def canned_events() -> Callable[..., Canned]:
    return as_events


@pytest.fixture
def canned() -> type[Canned]:
    return Canned
