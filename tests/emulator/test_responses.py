"""OpenAI's Responses API through OpenAI's SDK."""

import asyncio

import openai
import pytest

from agentmesh.testing import Answer

MODEL = "gpt-6.1-sol"
RULES = "rule " * 1_000


def request(**changes):
    return {"model": MODEL, "input": "Hi there", "store": False, **changes}


def ask(server, how, **changes):
    """Send one request in one of four ways and return the final response."""
    options = {"base_url": server.openai_url, "api_key": "k", "max_retries": 0}
    if how == "plain":
        with openai.OpenAI(**options) as client:
            return client.responses.create(**request(**changes))
    if how == "stream":
        with openai.OpenAI(**options) as client:
            return last(list(client.responses.create(**request(**changes), stream=True)))

    async def later():
        async with openai.AsyncOpenAI(**options) as client:
            if how == "async":
                return await client.responses.create(**request(**changes))
            stream = await client.responses.create(**request(**changes), stream=True)
            return last([event async for event in stream])

    return asyncio.run(later())


def last(events):
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    return events[-1].response


WAYS = pytest.mark.parametrize("how", ["plain", "stream", "async", "async stream"])


def function(schema, **changes):
    return {
        "type": "function",
        "name": "order_status",
        "parameters": schema,
        "strict": False,
    } | changes


@WAYS
def test_answers_with_text(start, how):
    response = ask(start(), how)
    assert response.output_text == "Hi there"
    assert (response.status, response.model) == ("completed", MODEL)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (2, 2)
    assert response.usage.total_tokens == 4


@WAYS
def test_calls_tools_and_reasons(start, how, tool_brain, schema):
    server = start(tool_brain)
    tools = [function(schema)]
    first = ask(server, how, tools=tools, include=["reasoning.encrypted_content"])
    reasoning, message, call = first.output
    assert reasoning.summary[0].text == "hm, W1"
    assert message.content[0].text == "let me look"
    assert (call.name, call.arguments) == ("order_status", '{"order":"W1","n":2}')
    assert first.usage.output_tokens_details.reasoning_tokens == 2
    history = [
        {"role": "user", "content": "Hi there"},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "shipped"},
    ]
    assert ask(server, how, tools=tools, input=history).output_text == "found shipped"


@WAYS
def test_bills_the_cache_in_openais_fields(start, how):
    server = start()
    first, again = (ask(server, how, instructions=RULES) for _ in range(2))
    details = first.usage.input_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (0, 1_252)
    assert details.cache_write_tokens_details.ttl_30m_tokens == 1_252
    assert again.usage.input_tokens_details.cached_tokens == 1_252
    assert first.usage.input_tokens == again.usage.input_tokens == 1_252


@WAYS
def test_refusals_and_lengths_say_so(start, how):
    refused = ask(start(lambda r: Answer("No.", stop="refusal")), how)
    assert refused.output[0].content[0].refusal == "No."
    cut = ask(start(lambda r: Answer("x" * 4_000)), how, max_output_tokens=16)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.output_text == "x" * 64


@WAYS
def test_a_call_cut_short_keeps_its_half_arguments(start, how, schema):
    brain = lambda r: Answer("", [("refund", '{"order": "W1", "amou')], stop="length")
    response = ask(start(brain), how, tools=[function(schema, name="refund")])
    assert response.status == "incomplete"
    assert response.output[0].arguments == '{"order": "W1", "amou'


@WAYS
def test_an_empty_answer_has_no_output(start, how):
    assert ask(start(lambda r: Answer()), how).output == []


def test_the_sdk_accumulates_the_stream(start, connect, tool_brain, schema):
    client = connect("openai", start(tool_brain))
    with client.responses.stream(**request(tools=[function(schema)])) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    assert "response.reasoning_summary_text.delta" in kinds
    assert final.output[-1].arguments == '{"order":"W1","n":2}'


def marked(text, **breakpoint_):
    part = {"type": "input_text", "text": text}
    return {**part, "prompt_cache_breakpoint": {"mode": "explicit", **breakpoint_}}


def test_an_explicit_breakpoint_is_read_before_another_message(start, connect):
    client = connect("openai", start())

    def send(words):
        system = {"role": "system", "content": [marked(RULES)]}
        user = {"role": "user", "content": words}
        response = client.responses.create(model=MODEL, input=[system, user])
        return response.usage.input_tokens_details

    assert send("one two").cached_tokens == 0
    assert send("three four").cached_tokens == 1_250


def test_the_long_time_to_live_is_reported_apart(start, connect):
    server = start()
    client = connect("openai", server)
    options = {"prompt_cache_options": {"ttl": "12h"}}
    response = client.responses.create(**request(instructions=RULES, **options))
    split = response.usage.input_tokens_details.cache_write_tokens_details
    assert (split.ttl_12h_tokens, split.ttl_30m_tokens) == (1_252, 0)
    assert server.bills[0].usage.write_long == 1_252


def test_explicit_mode_without_breakpoints_caches_nothing(start, connect):
    server = start()
    client = connect("openai", server)
    for _ in range(2):
        client.responses.create(
            **request(instructions=RULES, prompt_cache_options={"mode": "explicit"})
        )
    assert [bill.usage.fresh for bill in server.bills] == [1_252] * 2


def test_a_prewarm_writes_the_cache_and_says_nothing(start, connect):
    client = connect("openai", start())
    warm = client.responses.create(
        **request(instructions=RULES, prompt_cache_options={"prewarm": True})
    )
    assert warm.output == []
    cold = client.responses.create(**request(instructions=RULES))
    assert cold.usage.input_tokens_details.cached_tokens == 1_252


def test_more_than_four_breakpoints_are_taken_and_the_latest_written(start, connect):
    server = start()
    client = connect("openai", server)
    parts = [marked(f"{number} " * 2_100) for number in range(6)]
    for _ in range(2):
        client.responses.create(**request(input=[{"role": "user", "content": parts}]))
    assert server.bills[1].usage.read == server.bills[1].usage.input


@pytest.mark.parametrize(
    "changes",
    [
        {"reasoning": {"effort": "low"}},
        {"text": {"verbosity": "low"}},
        {"parallel_tool_calls": False},
    ],
)
def test_settings_that_the_cache_key_sees_change_the_prefix(start, connect, changes):
    server = start()
    client = connect("openai", server)
    client.responses.create(**request(instructions=RULES))
    client.responses.create(**request(instructions=RULES, **changes))
    assert server.bills[1].usage.read == 0


def test_diagnoses_why_a_prefix_was_not_reused(start, connect, schema):
    client = connect("openai", start())

    def send(previous, **changes):
        options = {"comparison_response_id": previous} if previous else {"mode": "implicit"}
        body = request(instructions=RULES, **changes)
        done = client.responses.create(**body, prompt_cache_options=options)
        return done.id, done.prompt_cache_diagnostics

    first, none = send(None)
    assert none is None
    more = [{"role": "user", "content": text} for text in ("Hi there", "and?")]
    assert send(first, input=more)[1].type == "cache_hit"
    assert send("resp_nobody")[1].type == "comparison_response_not_found"
    changed = {
        "model_changed": {"model": "gpt-6-sol"},
        "tools_changed": {"tools": [function(schema)]},
        "reasoning_effort_changed": {"reasoning": {"effort": "low"}},
        "verbosity_changed": {"text": {"verbosity": "low"}},
        "prompt_cache_key_changed": {"prompt_cache_key": "other"},
        "service_tier_changed": {"service_tier": "flex"},
        "input_changed": {"input": "Bye"},
    }
    for reason, changes in changed.items():
        told = send(first, **changes)[1]
        assert (told.type, told.reason) == ("cache_miss", reason)
    assert told.comparison_reusable_tokens == 1_250
