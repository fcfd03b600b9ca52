"""Anthropic's Messages API through Anthropic's SDK."""

import asyncio

import anthropic
import pytest

from agentmesh.testing import Answer

MODEL = "claude-opus-5-5"
RULES = [{"type": "text", "text": "rule " * 600, "cache_control": {"type": "ephemeral"}}]
HI = [{"role": "user", "content": "Hi there"}]


def request(**changes):
    return {"model": MODEL, "max_tokens": 500, "messages": HI, **changes}


def ask(server, how, **changes):
    """Send one request in one of four ways and return the final message."""
    if how == "plain":
        with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
            return client.messages.create(**request(**changes))
    if how == "stream":
        with (
            anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client,
            client.messages.stream(**request(**changes)) as stream,
        ):
            return stream.get_final_message()

    async def later():
        async with anthropic.AsyncAnthropic(
            base_url=server.url, api_key="k", max_retries=0
        ) as client:
            if how == "async":
                return await client.messages.create(**request(**changes))
            async with client.messages.stream(**request(**changes)) as stream:
                return await stream.get_final_message()

    return asyncio.run(later())


WAYS = pytest.mark.parametrize("how", ["plain", "stream", "async", "async stream"])


@WAYS
def test_answers_with_text(start, how):
    message = ask(start(), how)
    assert message.content[0].text == "Hi there"
    assert (message.role, message.model, message.stop_reason) == ("assistant", MODEL, "end_turn")
    assert message.id.startswith("msg_")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 2)


@WAYS
def test_calls_tools_and_thinks(start, how, tool_brain, schema):
    server = start(tool_brain)
    tools = [{"name": "order_status", "description": "Look up", "input_schema": schema}]
    first = ask(server, how, tools=tools)
    thinking, text, call = first.content
    assert (thinking.thinking, text.text) == ("hm, W1", "let me look")
    assert (call.name, call.input) == ("order_status", {"order": "W1", "n": 2})
    assert first.stop_reason == "tool_use"
    assert first.usage.output_tokens_details.thinking_tokens == 2
    answered = [
        *HI,
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "shipped"}],
        },
    ]
    for block in answered[1]["content"]:  # what the API adds to a response is not for requests
        for name in ("citations", "caller", "parsed_output", "toolset_name"):
            block.pop(name, None)
    second = ask(server, how, tools=tools, messages=answered)
    assert second.content[0].text == "found shipped"


@WAYS
def test_bills_the_cache_in_anthropics_fields(start, how):
    server = start()
    first = ask(server, how, system=RULES)
    again = ask(server, how, system=RULES)
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == 750
    assert (first.usage.cache_creation_input_tokens, first.usage.cache_read_input_tokens) == (
        750,
        0,
    )
    assert (again.usage.cache_creation_input_tokens, again.usage.cache_read_input_tokens) == (
        0,
        750,
    )
    assert first.usage.input_tokens == again.usage.input_tokens == 2
    assert [bill.usage.read for bill in server.bills] == [0, 750]
    assert [bill.stream for bill in server.bills] == ["stream" in how] * 2


@WAYS
def test_refusals_and_lengths_say_so(start, how):
    server = start(lambda r: Answer("I can't help with that.", stop="refusal"))
    message = ask(server, how)
    assert message.stop_reason == "refusal"
    server = start(lambda r: Answer("x" * 4_000))
    message = ask(server, how, max_tokens=10)
    assert (message.stop_reason, message.content[0].text) == ("max_tokens", "x" * 40)
    assert message.usage.output_tokens == 10


@WAYS
def test_a_call_cut_short_is_marked_by_its_stop_reason(start, how, schema):
    server = start(lambda r: Answer("", [("refund", '{"order": "W1", "amou')], stop="length"))
    message = ask(server, how, tools=[{"name": "refund", "input_schema": schema}])
    assert message.stop_reason == "max_tokens"
    assert message.content[0].name == "refund"
    assert "amount" not in message.content[0].input


@WAYS
def test_an_empty_answer_has_no_content(start, how):
    message = ask(start(lambda r: Answer()), how)
    assert message.content == []
    assert message.stop_reason == "end_turn"


def test_streams_every_event_in_order(start, connect, tool_brain, schema):
    client = connect("anthropic", start(tool_brain))
    tools = [{"name": "order_status", "input_schema": schema}]
    with client.messages.create(**request(tools=tools), stream=True) as stream:
        events = [event.type for event in stream]
    assert events[0] == "message_start"
    assert events[-2:] == ["message_delta", "message_stop"]
    assert events.count("content_block_start") == events.count("content_block_stop") == 3


def test_a_prewarm_writes_the_cache_and_says_nothing(start, connect):
    server = start()
    client = connect("anthropic", server)
    warm = client.messages.create(**request(max_tokens=0, system=RULES))
    assert (warm.content, warm.stop_reason, warm.usage.output_tokens) == ([], "max_tokens", 0)
    assert client.messages.create(**request(system=RULES)).usage.cache_read_input_tokens == 750


def test_automatic_caching_marks_the_last_block(start, connect):
    client = connect("anthropic", start())
    long = [{"role": "user", "content": "x" * 4_000}]
    auto = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    first = client.messages.create(**request(messages=long, **auto))
    assert first.usage.cache_creation.ephemeral_1h_input_tokens == 1_000
    assert client.messages.create(**request(messages=long, **auto)).usage.cache_read_input_tokens


def test_counts_tokens_as_it_bills_them(start, connect, schema):
    server = start()
    client = connect("anthropic", server)
    tools = [{"name": "t", "description": "d", "input_schema": schema}]
    counted = client.messages.count_tokens(model=MODEL, messages=HI, system="Be kind.", tools=tools)
    client.messages.create(**request(system="Be kind.", tools=tools))
    assert counted.input_tokens == server.bills[0].usage.input
    assert len(server.bills) == 1


def test_settings_that_the_cache_key_sees_invalidate_the_messages(start, connect, schema):
    client = connect("anthropic", start())
    tools = [{"name": "t", "input_schema": schema}]
    system = [{**RULES[0]}]
    long = [{"role": "user", "content": "x" * 4_000}]
    body = request(system=system, tools=tools, messages=long, cache_control={"type": "ephemeral"})
    client.messages.create(**body)
    other = client.messages.create(**body, tool_choice={"type": "none"})
    assert other.usage.cache_read_input_tokens < 1_000  # tools and system, not the messages
    assert other.usage.cache_creation_input_tokens == 1_000


def test_diagnoses_why_a_prefix_was_not_reused(start, connect, schema):
    client = connect("anthropic", start())
    tools = [{"name": "t", "input_schema": schema}]

    def send(previous, **changes):
        body = request(system=RULES, **changes)
        return client.messages.create(**body, diagnostics={"previous_message_id": previous})

    first = send(None, tools=tools)
    assert first.diagnostics is None
    more = [*HI, {"role": "assistant", "content": "Yes?"}, *HI]
    assert send(first.id, tools=tools, messages=more).diagnostics is None
    changed = {
        "model_changed": {"tools": tools, "model": "claude-opus-5"},
        "tools_changed": {},
        "system_changed": {"tools": tools, "system": "Other rules"},
        "messages_changed": {"tools": tools, "messages": [{"role": "user", "content": "Bye"}]},
    }
    for reason, changes in changed.items():
        body = {"system": RULES, **changes}
        answer = client.messages.create(
            **request(**body), diagnostics={"previous_message_id": first.id}
        )
        assert answer.diagnostics.cache_miss_reason.type == reason
    unmarked = client.messages.create(
        **request(system=[{"type": "text", "text": RULES[0]["text"]}], tools=tools),
        diagnostics={"previous_message_id": first.id},
    )
    assert unmarked.diagnostics is None  # a breakpoint that moved is no change
    lost = send("msg_nobody", tools=tools)
    assert lost.diagnostics.cache_miss_reason.type == "previous_message_not_found"


def test_ids_can_be_repeated_by_a_second_run_and_are_unique_within_one(start, connect, tool_brain):
    seen = []
    for _ in range(2):
        client = connect("anthropic", start(tool_brain))
        messages = [client.messages.create(**request()) for _ in range(3)]
        seen.append([m.id for m in messages] + [m.content[-1].id for m in messages])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 6
