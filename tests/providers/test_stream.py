"""A streamed answer adds up to the very message of the whole answer, however it was cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.utils import message_chunk_to_message

from agentmesh import canonical
from agentmesh.errors import TierError
from agentmesh.prompt import Entry, Prompt
from agentmesh.providers import ChatModel, connect, stop_of, to_blocks, to_messages, usage_of
from agentmesh.providers.blocks import compact
from agentmesh.providers.transport import encode

Block = dict[str, Any]
URL = "http://127.0.0.1:9/v1"
NAMES = ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai-compatible:qwen3-8b"]

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30)
said = words.map(lambda text: f"{text}.")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words, lambda v: st.lists(v, max_size=3)
)
arguments = st.dictionaries(words, values, max_size=3).map(compact)
texts = said.map(lambda text: {"type": "text", "text": text})
calls = st.builds(
    lambda name, args: {"type": "call", "id": "", "name": name, "arguments": args},
    st.sampled_from(["find", "refund"]),
    arguments,
)
thoughts = said.map(lambda text: {"type": "opaque", "text": text})


def numbered(blocks: list[Block]) -> list[Block]:
    return [{**b, "id": f"call_{n}"} if b["type"] == "call" else b for n, b in enumerate(blocks)]


ANY_ORDER = st.lists(texts | calls | thoughts, min_size=1, max_size=6).map(numbered)
CHAT_ORDER = st.tuples(
    st.lists(thoughts, max_size=1), st.lists(texts, max_size=1), st.lists(calls, max_size=3)
).map(lambda parts: numbered([*parts[0], *parts[1], *parts[2]]))

Cut = Callable[[str], list[str]]
Vendor = Callable[[list[Block], Cut], tuple[dict[str, Any], list[dict[str, Any]]]]


def anthropic(blocks: list[Block], cut: Cut) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    content, events = [], []
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            whole: Block = {"type": "text", "text": block["text"], "citations": None}
            empty: Block = {"type": "text", "text": "", "citations": None}
            deltas = [{"type": "text_delta", "text": t} for t in cut(block["text"])]
        elif block["type"] == "call":
            whole = {"type": "tool_use", "id": block["id"], "name": block["name"]}
            empty = {**whole, "input": {}}
            whole["input"] = json.loads(block["arguments"])
            pieces = [] if block["arguments"] == "{}" else cut(block["arguments"])
            deltas = [{"type": "input_json_delta", "partial_json": t} for t in ("", *pieces)]
        else:
            whole = {"type": "thinking", "thinking": block["text"], "signature": "c2ln"}
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": t} for t in cut(block["text"])]
            deltas.append({"type": "signature_delta", "signature": "c2ln"})
        content.append(whole)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        events.append({"type": "content_block_stop", "index": index})
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    }
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    tail = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    start = {**head, "content": [], "usage": {**usage, "output_tokens": 1}}
    return {**head, **stop, "content": content, "usage": {**usage, **tail}}, [
        {"type": "message_start", "message": start},
        *events,
        {"type": "message_delta", "delta": stop, "usage": tail},
        {"type": "message_stop"},
    ]


def responses(blocks: list[Block], cut: Cut) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    output: list[Block] = []
    events: list[dict[str, Any]] = []

    def add(item: Block, begun: Block, *deltas: dict[str, Any]) -> None:
        where = {"output_index": len(output)}
        events.append({"type": "response.output_item.added", **where, "item": begun})
        events.extend({**delta, **where} for delta in deltas)
        events.append({"type": "response.output_item.done", **where, "item": item})
        output.append(item)

    for number, block in enumerate(blocks):
        if block["type"] == "text":
            part = {"type": "output_text", "text": block["text"], "annotations": []}
            item = {"type": "message", "id": f"m{number}", "phase": "commentary"}
            kind = {"type": "response.output_text.delta", "content_index": 0}
            deltas = [{**kind, "delta": t} for t in cut(block["text"])]
            add({**item, "content": [part]}, {**item, "content": []}, *deltas)
        elif block["type"] == "call":
            item = {"type": "function_call", "call_id": block["id"], "name": block["name"]}
            kind = {"type": "response.function_call_arguments.delta"}
            deltas = [{**kind, "delta": t} for t in cut(block["arguments"])]
            add({**item, "arguments": block["arguments"]}, {**item, "arguments": ""}, *deltas)
        else:
            item = {"type": "reasoning", "id": f"r{number}", "summary": []}
            kind = {"type": "response.reasoning_summary_text.delta", "summary_index": 0}
            deltas = [{**kind, "delta": t} for t in cut(block["text"])]
            summary = [{"type": "summary_text", "text": block["text"]}]
            done = {**item, "summary": summary, "encrypted_content": "e", "status": "completed"}
            add(done, item, *deltas)
    usage = {
        "input_tokens": 133,
        "input_tokens_details": {
            "cached_tokens": 100,
            "cache_write_tokens": 30,
            "cache_write_tokens_details": {"ttl_30m_tokens": 10, "ttl_12h_tokens": 20},
        },
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 142,
    }
    response = {"id": "resp_1", "model": "gpt-6.1-sol", "status": "completed", "usage": usage}
    response["output"] = output
    return response, [
        {"type": "response.created", "response": {"id": "resp_1"}},
        *events,
        {"type": "response.completed", "response": response},
    ]


def completions(blocks: list[Block], cut: Cut) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for block in blocks:
        if block["type"] == "text":
            message["content"] = block["text"]
            deltas += [{"content": t} for t in cut(block["text"])]
        elif block["type"] == "call":
            found = message.setdefault("tool_calls", [])
            function = {"name": block["name"], "arguments": block["arguments"]}
            at = {"index": len(found)}
            found.append({"id": block["id"], "type": "function", "function": function})
            first = {"name": block["name"], "arguments": ""}
            deltas.append({"tool_calls": [{**at, "id": block["id"], "function": first}]})
            deltas += [
                {"tool_calls": [{**at, "function": {"arguments": t}}]}
                for t in cut(block["arguments"])
            ]
        else:
            message["reasoning_content"] = block["text"]
            deltas += [{"reasoning_content": t} for t in cut(block["text"])]
    finish = "tool_calls" if "tool_calls" in message else "stop"
    head = {"id": "chatcmpl-1", "model": "qwen3-8b"}
    usage = {
        "prompt_tokens": 133,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    choice = {"index": 0, "message": message, "finish_reason": finish}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas
    ]
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return {**head, "choices": [choice], "usage": usage}, [
        *chunks,
        last,
        {**head, "choices": [], "usage": usage},
    ]


VENDORS: dict[str, tuple[Vendor, st.SearchStrategy[list[Block]]]] = {
    NAMES[0]: (anthropic, ANY_ORDER),
    NAMES[1]: (responses, ANY_ORDER),
    NAMES[2]: (completions, CHAT_ORDER),
}


def model(name: str) -> ChatModel:
    return connect(name, base_url=URL)


def chunks_of(chat: ChatModel, events: list[dict[str, Any]]) -> Iterator[AIMessageChunk]:
    reader = chat._reader()
    for event in events:
        yield from reader.feed(event)
    yield reader.close("req_1")


def merged(chat: ChatModel, events: list[dict[str, Any]]) -> Any:
    first, *rest = chunks_of(chat, events)
    return message_chunk_to_message(first + rest)


def cutter(data: st.DataObject) -> Cut:
    def cut(text: str) -> list[str]:
        at = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=3)))
        edges = [0, *at, len(text)]
        return [text[a:b] for a, b in pairwise(edges)]

    return cut


def plain(content: Any) -> list[Block]:
    """Content blocks without the positions that streaming leaves on them."""
    return [{k: v for k, v in block.items() if k != "index"} for block in content]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_streamed_equals_whole(name: str, data: st.DataObject) -> None:
    vendor, order = VENDORS[name]
    blocks = data.draw(order)
    whole, events = vendor(blocks, cutter(data))
    chat = model(name)
    one, two = chat._parse(whole, "req_1"), merged(chat, events)
    assert to_blocks(one, name) == to_blocks(two, name)
    assert plain(one.content) == plain(two.content)
    assert one.tool_calls == two.tool_calls
    assert one.usage_metadata == two.usage_metadata
    assert one.response_metadata == two.response_metadata
    assert one.text == two.text
    spoken = [b["text"] for b in blocks if b["type"] == "text"]
    called = [(b["id"], b["name"], b["arguments"]) for b in blocks if b["type"] == "call"]
    found = to_blocks(two, name)
    assert [b["text"] for b in found if b["type"] == "text"] == spoken
    assert [(b["id"], b["name"], b["arguments"]) for b in found if b["type"] == "call"] == called
    assert stop_of(two) == ("tools" if called else "end")
    used = usage_of(two)
    assert (used.input, used.read, used.output, used.reasoning) == (133, 100, 9, 4)
    assert (used.write, used.write_long) == ((30, 0) if name == NAMES[2] else (10, 20))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_an_answer_goes_back_as_it_came(name: str, data: st.DataObject) -> None:
    """Blocks from the log give the same request as the message itself."""
    vendor, order = VENDORS[name]
    whole, _ = vendor(data.draw(order), lambda text: [text])
    chat = model(name)
    message = chat._parse(whole, "")
    body = canonical.dumps({"blocks": to_blocks(message, name)})
    logged = to_messages(Prompt((), (), (Entry(1, 1, 1, "assistant", body),)), name)
    again = canonical.loads(encode(chat.body(logged)).decode())
    assert again == canonical.loads(encode(chat.body([message])).decode())


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_stream_without_its_end_is_a_failure(name: str, data: st.DataObject) -> None:
    vendor, order = VENDORS[name]
    _, events = vendor(data.draw(order), cutter(data))
    last = 2 if name == NAMES[2] else 1  # the usage may be missing, the finish reason may not
    kept = data.draw(st.integers(0, len(events) - last - (name == NAMES[0])))
    kept = min(kept, len(events) - last)
    with pytest.raises(TierError) as caught:
        list(chunks_of(model(name), events[:kept]))
    assert caught.value.kind == "cut_stream"
    assert caught.value.retryable


def spoil(value: Any, data: st.DataObject) -> Any:
    """A copy of a JSON value with one thing in it taken away or replaced by nonsense."""
    copy = json.loads(json.dumps(value))
    at = copy
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return copy
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        nonsense = data.draw(st.sampled_from([None, 7, "x", [], {}, [None], {"type": "?"}]))
        at[key] = nonsense
        return copy


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_nonsense_is_a_failure_or_an_answer_never_a_crash(name: str, data: st.DataObject) -> None:
    vendor, order = VENDORS[name]
    whole, events = vendor(data.draw(order), cutter(data))
    chat = model(name)
    with suppress(TierError):
        message = chat._result(spoil(whole, data), "").generations[0].message
        to_blocks(message, name)
    number = data.draw(st.integers(0, len(events) - 1))
    reader = chat._reader()
    with suppress(TierError):
        spoilt = [spoil(event, data) if at == number else event for at, event in enumerate(events)]
        heard = [chunk.message for event in spoilt for chunk in chat._chunks(reader, event)]
        first, *rest = [*heard, reader.close("")]
        to_blocks(message_chunk_to_message(first + rest), name)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_cut_by_the_token_limit_says_so(name: str) -> None:
    cut = {"type": "call", "id": "call_0", "name": "find", "arguments": '{"order": "#W1", "su'}
    vendor, _ = VENDORS[name]
    whole, events = vendor([{**cut, "arguments": "{}"}], lambda text: [text])
    if name == NAMES[0]:
        whole["stop_reason"] = "max_tokens"
        delta = {"type": "input_json_delta", "partial_json": cut["arguments"]}
        events.insert(3, {"type": "content_block_delta", "index": 0, "delta": delta})
        events[-2]["delta"] = {"stop_reason": "max_tokens"}
    elif name == NAMES[1]:
        whole, events = responses([cut], lambda text: [text])
        whole |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        events[-1] = {"type": "response.incomplete", "response": whole}
    else:
        whole, events = completions([cut], lambda text: [text])
        whole["choices"][0]["finish_reason"] = events[-2]["choices"][0]["finish_reason"] = "length"
    chat = model(name)
    one, two = chat._parse(whole, ""), merged(chat, events)
    assert stop_of(one) == stop_of(two) == "length"
    assert to_blocks(two, name) == [cut]
    assert two.tool_calls == [], "nothing may run it"
    assert two.invalid_tool_calls[0]["name"] == "find"
    if name != NAMES[0]:  # Anthropic loses the cut text where it does not stream
        assert to_blocks(one, name) == [cut]
        assert one.tool_calls == []
        assert one.invalid_tool_calls[0]["args"] == cut["arguments"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": "x',
        '{"a": 1, "b": "x\\',
        '{"a": 1,',
        '{"a": [1, {"b": 2',
        "[1, 2",
        '"a"',
        "{'a': 1}",
    ],
)
def test_no_lenient_parser_mends_broken_arguments(text: str) -> None:
    for name in NAMES[1:]:
        vendor, _ = VENDORS[name]
        call = {"type": "call", "id": "call_0", "name": "find", "arguments": text}
        whole, events = vendor([call], lambda text: [text])
        chat = model(name)
        one, two = chat._parse(whole, ""), merged(chat, events)
        assert one.tool_calls == two.tool_calls == []
        assert len(one.invalid_tool_calls) == len(two.invalid_tool_calls) == 1
        assert to_blocks(one, name) == to_blocks(two, name) == [call]
        assert stop_of(one) == stop_of(two) == "tools"


def test_refusals_are_seen() -> None:
    chat = model(NAMES[0])
    whole, events = anthropic([{"type": "text", "text": "No."}], lambda text: [text])
    whole["stop_reason"] = "refusal"
    events[-2]["delta"] = {"stop_reason": "refusal", "stop_details": {"type": "refusal"}}
    assert stop_of(chat._parse(whole, "")) == stop_of(merged(chat, events)) == "refusal"

    chat = model(NAMES[1])
    part = {"type": "refusal", "refusal": "I cannot."}
    item = {"type": "message", "id": "m", "content": [part]}
    whole = {"id": "r", "model": "m", "status": "completed", "output": [item]}
    events = [
        {
            "type": "response.refusal.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "I cannot.",
        },
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    one, two = chat._parse(whole, ""), merged(chat, events)
    assert stop_of(one) == stop_of(two) == "refusal"
    assert to_blocks(two, NAMES[1]) == [{"type": "text", "text": "I cannot."}]
    assert plain(one.content) == plain(two.content)

    chat = model(NAMES[2])
    message = {"content": None, "refusal": "I cannot."}
    whole = {"id": "c", "choices": [{"message": message, "finish_reason": "stop"}]}
    events = [
        {"id": "c", "choices": [{"delta": {"refusal": "I cannot."}}]},
        {"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    assert stop_of(chat._parse(whole, "")) == stop_of(merged(chat, events)) == "refusal"


def test_openai_tells_what_no_delta_told() -> None:
    whole, events = responses(
        numbered([{"type": "text", "text": "T"}, {"type": "call", "name": "f", "arguments": "{}"}]),
        lambda text: [text],
    )
    silent = [e for e in events if not e["type"].endswith(".delta")]
    late = [e for e in silent if e["type"] != "response.output_item.added"]
    chat = model(NAMES[1])
    expected = to_blocks(chat._parse(whole, ""), NAMES[1])
    assert to_blocks(merged(chat, silent), NAMES[1]) == expected
    told = to_blocks(merged(chat, late), NAMES[1])
    assert [b["type"] for b in told] == ["text", "call"]


def test_reasoning_that_only_the_vendor_stores_is_shown_but_not_sent_back() -> None:
    item = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "S"}]}
    delta = {"type": "response.reasoning_summary_text.delta", "delta": "S"}
    whole = {"id": "r", "status": "completed", "output": [item]}
    events = [
        {**delta, "output_index": 0, "summary_index": 0},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    chat = model(NAMES[1])
    for message in (chat._parse(whole, ""), merged(chat, events)):
        assert message.content[0]["reasoning"] == "S"
        assert to_blocks(message, NAMES[1]) == []


def test_other_blocks_of_anthropic_are_kept_whole() -> None:
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": 1}}
    whole, events = anthropic([], lambda text: [text])
    whole["content"] = [redacted, search, {"type": "text", "text": "T"}]
    delta = {"type": "input_json_delta", "partial_json": '{"q":1}'}
    events[1:1] = [
        {"type": "content_block_start", "index": 0, "content_block": redacted},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**search, "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": delta},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": "T"}},
        {"type": "content_block_stop", "index": 2},
    ]
    chat = model(NAMES[0])
    one, two = chat._parse(whole, ""), merged(chat, events)
    bound = [b["data"] for b in to_blocks(two, NAMES[0]) if b["type"] == "opaque"]
    assert bound == [redacted, search]
    assert to_blocks(one, NAMES[0]) == to_blocks(two, NAMES[0])


def test_small_servers_are_understood() -> None:
    """Ollama's whole calls under one index, calls without id, no usage, DeepSeek's counters."""
    chat = model(NAMES[2])
    full = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"index": 0, "id": "b", "function": {"name": "f", "arguments": ""}},
    ]
    events = [
        {"id": "c", "choices": [{"delta": {"tool_calls": full}}]},
        {"id": "c", "choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    ]
    two = merged(chat, events)
    assert [(c["id"], c["args"]) for c in two.tool_calls] == [("a", {"x": 1}), ("b", {})]
    assert two.usage_metadata is None
    assert usage_of(two).input == 0
    arguments = {"arguments": {"x": 1}, "name": "f"}
    whole = {
        "id": "c",
        "choices": [
            {"message": {"tool_calls": [{"function": arguments}] * 2}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 10, "prompt_cache_hit_tokens": 8, "completion_tokens": 1},
    }
    one = chat._parse(whole, "")
    first, second = to_blocks(one, NAMES[2])
    assert first["arguments"] == '{"x":1}'
    assert first["id"] != second["id"]
    assert (usage_of(one).read, usage_of(one).fresh) == (8, 2)
    assert stop_of(one) == "tools"
