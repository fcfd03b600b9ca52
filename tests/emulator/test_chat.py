"""Chat Completions through OpenAI's SDK: OpenAI's own models and compatible servers."""

import asyncio

import openai
import pytest

from agentmesh.testing import Answer

RULES = {"role": "system", "content": "rule " * 1_000}
HI = [{"role": "user", "content": "Hi there"}]


def request(**changes):
    return {"model": "qwen3-8b", "messages": HI, **changes}


def ask(server, how, **changes):
    """Send one request in one of four ways; return the completion, or its chunks put together."""
    options = {"base_url": server.openai_url, "api_key": "k", "max_retries": 0}
    body = request(**changes)
    if how == "plain":
        with openai.OpenAI(**options) as client:
            return client.chat.completions.create(**body)
    if how == "stream":
        with (
            openai.OpenAI(**options) as client,
            client.chat.completions.stream(
                **body, stream_options={"include_usage": True}
            ) as stream,
        ):
            return stream.get_final_completion()

    async def later():
        async with openai.AsyncOpenAI(**options) as client:
            if how == "async":
                return await client.chat.completions.create(**body)
            async with client.chat.completions.stream(
                **body, stream_options={"include_usage": True}
            ) as stream:
                return await stream.get_final_completion()

    return asyncio.run(later())


WAYS = pytest.mark.parametrize("how", ["plain", "stream", "async", "async stream"])


def function(schema, name="order_status"):
    return {"type": "function", "function": {"name": name, "parameters": schema}}


@WAYS
def test_answers_with_text(start, how):
    completion = ask(start(), how)
    choice = completion.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hi there", "stop")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (2, 2)


@WAYS
def test_calls_tools(start, how, tool_brain, schema):
    server = start(tool_brain)
    tools = [function(schema)]
    first = ask(server, how, tools=tools)
    message = first.choices[0].message
    call = message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content == "let me look"
    assert (call.function.name, call.function.arguments) == ("order_status", '{"order":"W1","n":2}')
    assert message.model_extra["reasoning_content"] == "hm, W1"
    spoken = {
        "role": "assistant",
        "content": message.content,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
        ],
    }
    result = {"role": "tool", "tool_call_id": call.id, "content": "shipped"}
    second = ask(server, how, tools=tools, messages=[*HI, spoken, result])
    assert second.choices[0].message.content == "found shipped"


@WAYS
@pytest.mark.parametrize("model", ["qwen3-8b", "gpt-4o"])
def test_bills_automatic_caches_in_steps(start, how, model):
    server = start()
    first, again = (ask(server, how, model=model, messages=[RULES, *HI]) for _ in range(2))
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert again.usage.prompt_tokens_details.cached_tokens == 1_152
    assert again.usage.prompt_tokens == 1_252
    assert server.bills[0].model == f"openai-compatible:{model}"
    assert (server.bills[0].cost_micro is None) == (model == "qwen3-8b")


@WAYS
def test_bills_written_tokens_where_writes_cost(start, how):
    server = start()
    first = ask(server, how, model="gpt-6.1-sol", messages=[RULES, *HI])
    assert first.usage.prompt_tokens_details.cache_write_tokens == 1_252
    assert server.bills[0].cost_micro == round(1_252 * 2.5 + 2 * 10)


def test_refusals_and_lengths_say_so(start):
    refused = ask(start(lambda r: Answer("No.", stop="refusal")), "plain")
    assert (refused.choices[0].message.refusal, refused.choices[0].message.content) == ("No.", None)
    for how in ("plain", "async"):
        cut = ask(start(lambda r: Answer("x" * 4_000)), how, max_tokens=3)
        assert cut.choices[0].finish_reason == "length"
        assert cut.choices[0].message.content == "x" * 12


@WAYS
def test_an_empty_answer_is_empty_text(start, how):
    assert not ask(start(lambda r: Answer()), how).choices[0].message.content


def test_a_stream_reports_usage_only_if_asked(start, connect):
    server = start()
    client = connect("openai", server)
    chunks = list(client.chat.completions.create(**request(), stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(
            **request(), stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].choices == []
    assert server.bills[0].usage == server.bills[1].usage


def test_an_explicit_breakpoint_is_read_before_another_message(start, connect):
    client = connect("openai", start())
    text = {"type": "text", "text": RULES["content"]}
    system = {
        "role": "system",
        "content": [{**text, "prompt_cache_breakpoint": {"mode": "explicit"}}],
    }
    cached = []
    for words in ("one two", "three four"):
        user = {"role": "user", "content": words}
        done = client.chat.completions.create(model="gpt-6.1-sol", messages=[system, user])
        cached.append(done.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, 1_250]


def test_compatible_servers_take_their_own_settings(start, connect):
    client = connect("openai", start())
    done = client.chat.completions.create(**request(), extra_body={"top_k": 20, "min_p": 0.1})
    assert done.choices[0].message.content == "Hi there"
