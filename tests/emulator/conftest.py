"""Clients of the vendors' own SDKs that talk to an emulator and are closed after the test."""

import anthropic
import httpx
import openai
import pytest

from agentmesh.testing import Answer, echo, emulator


class Clock:
    """Time that moves only when a test says so."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start():
    """Start an emulator that is stopped after the test."""
    running = []

    def start(brain=echo, **options):
        server = emulator(brain, **options)
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def connect():
    """Return clients by kind: `anthropic`, `openai` or `http`, for a running emulator."""
    opened = []

    def connect(kind, server, key="key-1"):
        made = {
            "anthropic": lambda: anthropic.Anthropic(
                base_url=server.url, api_key=key, max_retries=0
            ),
            "openai": lambda: openai.OpenAI(base_url=server.openai_url, api_key=key, max_retries=0),
            "http": lambda: httpx.Client(
                base_url=server.url, headers={"x-api-key": key}, timeout=10
            ),
        }[kind]()
        opened.append(made)
        return made

    yield connect
    for client in opened:
        client.close()


def lookup(request):
    """Use the first tool, then tell its result: a brain for tests of tool calls."""
    if request.results:
        return Answer(f"found {request.results[0]}")
    return Answer("let me look", [("order_status", {"order": "W1", "n": 2})], reasoning="hm, W1")


@pytest.fixture
def tool_brain():
    return lookup


SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["order"],
}


@pytest.fixture
def schema():
    return SCHEMA
