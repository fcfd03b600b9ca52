"""Our models against the emulated vendors: real SDKs, real HTTP, strict checks, LangGraph."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from agentmesh import canonical
from agentmesh.emulator import Answer, Request, echo
from agentmesh.prompt import Entry, Marks, Prompt, Segment, ToolSpec
from agentmesh.providers import (
    ChatModel,
    connect,
    stop_of,
    to_blocks,
    to_messages,
    to_tools,
    usage_of,
)
from agentmesh.testing import emulator

NAMES = [
    "anthropic:claude-opus-5-5",
    "openai:gpt-6.1-sol",
    "openai:gpt-4.1",
    "openai-compatible:qwen3-8b",
]
LONG = "All about the shop's rules. " * 400


def brain(request: Request) -> Answer:
    """Think, then look two things up; once there are results, tell them."""
    if request.results:
        return Answer(f"Found: {' and '.join(request.results)}.", reasoning="Now I know.")
    if request.tools and any("order" in message.text for message in request.turn):
        calls = [("find", '{"q": "ä",  "n": 1}'), ("find", {"q": "b"})]
        return Answer("Let me see.", calls=calls, reasoning="I should look.")
    return Answer(f"You said: {request.user_text}. " * 20, reasoning="Easy.")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with emulator(brain) as running:
        yield running


def model(name: str, server: Any, **fields: Any) -> ChatModel:
    url = server.url if name.startswith("anthropic") else server.openai_url
    return connect(name, base_url=url, api_key=f"key-{name}", **fields)


def streamed(chunks: list[AIMessageChunk]) -> Any:
    return message_chunk_to_message(chunks[0] + chunks[1:])


TOOLS = (ToolSpec("find", "Look up.", '{"properties":{"q":{}},"type":"object"}'),)
SEGMENTS = (Segment("core", LONG), Segment("task", "Help."))


class Conversation:
    """A log that grows by a model's answers, as the memory keeps it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: list[Entry] = []

    def add(self, kind: Any, *blocks: dict[str, Any]) -> None:
        body = canonical.dumps({"blocks": list(blocks)})
        self.entries.append(Entry(len(self.entries), 1, 1, kind, body))

    def prompt(self) -> Prompt:
        marks = Marks({"tools": "long", "task": "long"}, {len(self.entries) - 1: "short"})
        return Prompt(TOOLS, SEGMENTS, tuple(self.entries), "It is Tuesday.", marks, "shop")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_a_turn_with_parallel_calls(name: str, way: str, server: Any) -> None:
    chat = model(name, server)

    async def aask(bound: Any, messages: list[BaseMessage]) -> AIMessage:
        if way == "ainvoke":
            return await bound.ainvoke(messages)
        return streamed([chunk async for chunk in bound.astream(messages)])

    def ask(talk: Conversation) -> AIMessage:
        prompt = talk.prompt()
        bound = chat.bind_tools(to_tools(prompt))
        messages = to_messages(prompt, name)
        if way.startswith("a"):
            return asyncio.run(aask(bound, messages))
        if way == "invoke":
            return bound.invoke(messages)
        return streamed(list(bound.stream(messages)))

    talk = Conversation(name)
    talk.add("user", {"type": "text", "text": "Where is my order?"})
    first = ask(talk)
    assert stop_of(first) == "tools"
    blocks = to_blocks(first, name)
    calls = [block for block in blocks if block["type"] == "call"]
    exact = '{"q":"ä","n":1}' if name == NAMES[0] and "stream" not in way else '{"q": "ä",  "n": 1}'
    assert [call["arguments"] for call in calls] == [exact, '{"q":"b"}']
    assert [call["args"] for call in first.tool_calls] == [{"q": "ä", "n": 1}, {"q": "b"}]
    talk.add("assistant", *blocks)
    for call, found in zip(calls, ("one", "two"), strict=True):
        result = {"type": "result", "id": call["id"], "name": "find", "text": found, "error": False}
        talk.add("tool", result)
    second = ask(talk)
    assert second.text == "Found: one and two."
    assert stop_of(second) == "end"
    used = usage_of(second)
    assert used.output > used.reasoning > 0
    assert used.input > 2000
    if name != NAMES[3]:
        assert used.read > 2000, "the shared prefix is read from the cache"
    assert second.response_metadata["model_name"] == name.partition(":")[2]
    assert second.response_metadata["request_id"].startswith("req_")


@pytest.mark.parametrize("name", NAMES)
def test_usage_is_the_bill(name: str, server: Any) -> None:
    chat = model(name, server)
    talk = Conversation(name)
    talk.add("user", {"type": "text", "text": "Hello"})
    for _ in range(2):
        message = chat.invoke(to_messages(talk.prompt(), name))
        bill = next(b for b in server.bills if b.id == message.response_metadata["id"])
        assert usage_of(message) == bill.usage
        assert message.usage_metadata["input_tokens"] == bill.usage.input


def test_long_marks_are_written_for_long(server: Any) -> None:
    chat = connect(NAMES[0], base_url=server.url, api_key="fresh")
    talk = Conversation(NAMES[0])
    talk.add("user", {"type": "text", "text": "Hello"})
    message = chat.invoke(to_messages(talk.prompt(), NAMES[0]))
    details = message.usage_metadata["input_token_details"]
    assert details["ephemeral_1h_input_tokens"] == usage_of(message).write_long > 2000
    assert details["cache_creation"] == usage_of(message).write + usage_of(message).write_long


@pytest.mark.parametrize("name", NAMES)
def test_the_token_limit_shows(name: str, server: Any) -> None:
    said = model(name, server, max_tokens=16).invoke("Tell me everything about it")
    assert stop_of(said) == "length"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_langgraph_streams_tokens(name: str, asynchronous: bool, server: Any) -> None:
    chat = model(name, server)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat.invoke(state["messages"])]}

    async def aanswer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", aanswer if asynchronous else answer)
    builder.add_edge(START, "answer")
    graph = builder.compile()
    question = {"messages": [HumanMessage("Hello there")]}
    modes = ["messages", "values"]
    if asynchronous:

        async def collect() -> list[Any]:
            return [part async for part in graph.astream(question, stream_mode=modes)]

        parts = asyncio.run(collect())
    else:
        parts = list(graph.stream(question, stream_mode=modes))
    chunks = [part[0] for mode, part in parts if mode == "messages"]
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) > 3, "the answer came in pieces"
    final = parts[-1][1]["messages"][-1]
    assert "".join(texts) == final.text == "You said: Hello there. " * 20
    assert isinstance(final, AIMessage)
    assert usage_of(final).output > 0
    assert stop_of(final) == "end"


@pytest.mark.parametrize("name", NAMES)
def test_many_callers_share_one_model(name: str) -> None:
    with emulator(echo) as server:
        chat = model(name, server)
        questions = [f"question {number}" for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda q: chat.invoke(q).text, questions))
        assert answers == questions

        async def gather() -> list[AIMessage]:
            return await asyncio.gather(*(chat.ainvoke(question) for question in questions))

        assert [answer.text for answer in asyncio.run(gather())] == questions


class Tokens(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.usage: Any = None

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        self.seen.append(chunk.text)

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.usage = response.generations[0][0].message.usage_metadata


@pytest.mark.parametrize("name", NAMES)
def test_callbacks_hear_every_token_and_the_usage(name: str, server: Any) -> None:
    tokens = Tokens()
    chunks = list(model(name, server).stream("Hi", config={"callbacks": [tokens]}))
    assert "".join(tokens.seen) == "".join(chunk.text for chunk in chunks) == "You said: Hi. " * 20
    assert tokens.usage["output_tokens"] > 0


@tool
def find(q: str) -> str:
    """Look up."""
    return q


class Found(BaseModel):
    """What was found."""

    q: str
    n: int = 0


@pytest.mark.parametrize("name", NAMES)
def test_any_tool_of_langchain_can_be_bound(name: str, server: Any) -> None:
    for bound in ([find], [Found], [{"name": "find", "description": "", "parameters": {}}]):
        said = model(name, server).bind_tools(bound, tool_choice="auto").invoke("my order?")
        assert stop_of(said) == "tools"


@pytest.mark.parametrize("name", NAMES)
def test_structured_output(name: str) -> None:
    with emulator(lambda _: Answer(calls=[("Found", {"q": "x", "n": 2})])) as server:
        found = model(name, server).with_structured_output(Found).invoke("What is it?")
    assert found == Found(q="x", n=2)


@pytest.mark.parametrize("name", NAMES)
def test_another_models_history_is_accepted(name: str, server: Any) -> None:
    """A log that every model has had a turn in can be continued by each."""
    talk = Conversation(name)
    for other in NAMES:
        talk.add("user", {"type": "text", "text": "My order?"})
        prompt = talk.prompt()
        bound = model(other, server).bind_tools(to_tools(prompt))
        said = bound.invoke(to_messages(prompt, other))
        talk.add("assistant", *to_blocks(said, other))
        results = [
            {"type": "result", "id": c["id"], "name": "find", "text": "", "error": False}
            for c in said.tool_calls
        ]
        talk.add("tool", *results)
        talk.add("note", {"type": "text", "text": "set a=1"})
    prompt = talk.prompt()
    said = model(name, server).bind_tools(to_tools(prompt)).invoke(to_messages(prompt, name))
    assert stop_of(said) == "end"
