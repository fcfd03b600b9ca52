"""Every request that a vendor refuses is refused, in the vendor's own words and form."""

import copy

import anthropic
import httpx
import openai
import pytest

from agentmesh.testing import emulator

OBJECT = {"type": "object", "properties": {}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
SHORT = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def tool(**changes):
    return {"name": "f", "input_schema": OBJECT} | changes


HI = user(text("Hi"))
ANTHROPIC = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [HI]}
OLD = "claude-haiku-4-5"

REFUSED_BY_ANTHROPIC = {
    "no model": ({"model": ...}, "model: Field required"),
    "blank model": ({"model": ""}, "at least 1 character"),
    "no max_tokens": ({"max_tokens": ...}, "max_tokens: Field required"),
    "max_tokens not a number": ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    "max_tokens true": ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    "max_tokens negative": ({"max_tokens": -1}, "greater than or equal to 0"),
    "prewarm in a stream": ({"max_tokens": 0, "stream": True}, "max_tokens: 0"),
    "unknown field": ({"max_token": 5}, "max_token: Extra inputs are not permitted"),
    "stream not a boolean": ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    "no messages": ({"messages": ...}, "messages: Field required"),
    "messages not a list": ({"messages": "Hi"}, "messages: Input should be a valid list"),
    "empty messages": ({"messages": []}, "at least one message"),
    "message not an object": ({"messages": ["Hi"]}, "messages.0: Input should be a valid dict"),
    "no role": ({"messages": [{"content": "Hi"}]}, "messages.0.role: Field required"),
    "unknown role": ({"messages": [{"role": "bot", "content": "x"}]}, "'user' or 'assistant'"),
    "unknown message field": (
        {"messages": [{**HI, "name": "Al"}]},
        "messages.0.name: Extra inputs are not permitted",
    ),
    "assistant first": ({"messages": [assistant(text("x")), HI]}, 'must use the "user" role'),
    "no content": ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    "content a number": ({"messages": [{"role": "user", "content": 5}]}, "valid string or list"),
    "empty content": ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
    "no blocks": ({"messages": [user()]}, "non-empty content"),
    "empty text": ({"messages": [user(text(""))]}, "text content blocks must be non-empty"),
    "blank text": ({"messages": [user(text(" \n"))]}, "must contain non-whitespace text"),
    "mark on empty text": (
        {"messages": [user(text("", cache_control=SHORT))]},
        "cache_control cannot be set for empty text blocks",
    ),
    "text without text": ({"messages": [user({"type": "text"})]}, "text: Field required"),
    "unknown block": ({"messages": [user({"type": "txt"})]}, "Input tag 'txt'"),
    "unknown block field": ({"messages": [user(text("a", id=1))]}, "text.id: Extra inputs"),
    "tool_use by the user": ({"messages": [user(USE)]}, "not permitted in `user`"),
    "tool_result by the assistant": (
        {"messages": [HI, assistant(RESULT), HI]},
        "not permitted in `assistant`",
    ),
    "empty system block": ({"system": [text("")]}, "system: text content blocks must be non-empty"),
    "system not text": ({"system": 5}, "system: Input should be a valid"),
    "image in system": ({"system": [{"type": "image"}]}, "system.0.type"),
    "call without a result": (
        {"messages": [HI, assistant(USE), HI]},
        "`tool_use` ids were found without `tool_result` blocks immediately after: t1",
    ),
    "call without a next turn": (
        {"model": OLD, "messages": [HI, assistant(USE)]},
        "`tool_use` ids were found without",
    ),
    "result after text": (
        {"messages": [HI, assistant(USE), user(text("so"), RESULT)]},
        "`tool_use` ids were found without",
    ),
    "result without a call": ({"messages": [user(RESULT)]}, "unexpected `tool_use_id`"),
    "result twice": ({"messages": [HI, assistant(USE), user(RESULT, RESULT)]}, "unexpected"),
    "result for another call": (
        {"messages": [HI, assistant(USE), user({**RESULT, "tool_use_id": "t2"}, RESULT)]},
        "unexpected `tool_use_id` found in `tool_result` blocks: t2",
    ),
    "calls with one id": ({"messages": [HI, assistant(USE, USE), user(RESULT)]}, "must be unique"),
    "calls with one id later": (
        {"messages": [HI, assistant(USE), user(RESULT), assistant(USE), user(RESULT)]},
        "must be unique",
    ),
    "call without input": (
        {"messages": [HI, assistant({**USE, "input": "{}"}), user(RESULT)]},
        "input: Input should be a valid dictionary",
    ),
    "call with a bad id": (
        {"messages": [HI, assistant({**USE, "id": "a b"}), user(RESULT)]},
        "tool_use.id: String should match pattern",
    ),
    "result content a number": (
        {"messages": [HI, assistant(USE), user({**RESULT, "content": 5})]},
        "valid string or list",
    ),
    "five marks": (
        {"messages": [user(*[text(str(n), cache_control=SHORT) for n in range(5)])]},
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "five marks with the automatic one": (
        {
            "messages": [user(*[text(str(n), cache_control=SHORT) for n in range(4)], text("x"))],
            "cache_control": SHORT,
        },
        "Found 5.",
    ),
    "longer after shorter": (
        {
            "system": [text("a", cache_control=SHORT)],
            "messages": [user(text("b", cache_control=LONG))],
        },
        "content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after",
    ),
    "unknown ttl": (
        {"system": [text("a", cache_control={"type": "ephemeral", "ttl": "2h"})]},
        "Input should be '5m' or '1h'",
    ),
    "unknown mark": ({"system": [text("a", cache_control={"type": "x"})]}, "'ephemeral'"),
    "unknown mark field": (
        {"system": [text("a", cache_control={"type": "ephemeral", "scope": 1})]},
        "scope: Extra inputs",
    ),
    "mark on thinking": (
        {
            "messages": [
                HI,
                assistant(
                    {"type": "thinking", "thinking": "", "signature": "", "cache_control": SHORT}
                ),
                HI,
            ]
        },
        "cache_control: Extra inputs",
    ),
    "tool name with a space": ({"tools": [tool(name="a b")]}, "'^[a-zA-Z0-9_-]{1,128}$'"),
    "tool name too long": ({"tools": [tool(name="a" * 129)]}, "String should match pattern"),
    "tool without a name": ({"tools": [{"input_schema": OBJECT}]}, "name: Field required"),
    "tools with one name": ({"tools": [tool(), tool()]}, "Tool names must be unique"),
    "tool without a schema": ({"tools": [{"name": "f"}]}, "input_schema: Field required"),
    "tool with a string schema": (
        {"tools": [tool(input_schema={"type": "string"})]},
        "input_schema.type: Input should be 'object'",
    ),
    "tool with a broken schema": (
        {"tools": [tool(input_schema={"type": "object", "properties": {"a": 5}})]},
        "JSON schema is invalid",
    ),
    "unknown tool field": ({"tools": [tool(parameters={})]}, "parameters: Extra inputs"),
    "server tool": ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "not emulated"),
    "tools not a list": ({"tools": {"f": 1}}, "tools: Input should be a valid list"),
    "choice without tools": ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    "choice of nothing": ({"tools": [tool()], "tool_choice": "auto"}, "expected tags"),
    "choice of an unknown tool": (
        {"tools": [tool()], "tool_choice": {"type": "tool", "name": "g"}},
        "Tool 'g' not found",
    ),
    "prefill on a new model": ({"messages": [HI, assistant(text("So"))]}, "prefill"),
    "prefill ends in a space": (
        {"model": OLD, "messages": [HI, assistant(text("So "))]},
        "cannot end with trailing whitespace",
    ),
    "temperature on a new model": ({"temperature": 0.2}, "temperature: not supported"),
    "temperature too high": ({"model": OLD, "temperature": 1.5}, "temperature: range: 0..1"),
    "temperature as text": ({"model": OLD, "temperature": "hot"}, "valid number"),
    "unknown thinking": ({"thinking": {"type": "deep"}}, "expected tags"),
    "thinking budget too small": (
        {"max_tokens": 4_000, "thinking": {"type": "enabled", "budget_tokens": 10}},
        "greater than or equal to 1024",
    ),
    "thinking budget above max_tokens": (
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
        "must be greater than `thinking.budget_tokens`",
    ),
    "another model's thinking": (
        {
            "messages": [
                HI,
                assistant({"type": "thinking", "thinking": "hm", "signature": "Zm9v"}, text("a")),
                HI,
            ]
        },
        "Invalid `signature` in `thinking` block",
    ),
    "system message on an old model": (
        {"model": OLD, "messages": [HI, {"role": "system", "content": "Now be brief"}]},
        "Input should be 'user' or 'assistant'",
    ),
    "system message after the assistant": (
        {"messages": [HI, assistant(text("a")), {"role": "system", "content": "x"}, HI]},
        "must follow a 'user' message",
    ),
    "prompt above the window": (
        {"messages": [user(text("x" * 4_400_000))]},
        "prompt is too long",
    ),
}

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
SAID = {"role": "user", "content": "Hi"}
MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}
RESPONSES = {"model": "gpt-6.1-sol", "input": [SAID]}
FUNCTION = {"type": "function", "name": "f", "parameters": OBJECT, "strict": False}


def part(words="a", kind="input_text", **more):
    return {"type": kind, "text": words, **more}


REFUSED_BY_RESPONSES = {
    "no model": ({"model": ...}, "Missing required parameter: 'model'", "model"),
    "model a number": ({"model": 5}, "Invalid type for 'model': expected a string", "model"),
    "no input": ({"input": ...}, "Missing required parameter: 'input'", "input"),
    "empty input": ({"input": []}, "empty array", "input"),
    "input a number": ({"input": 5}, "expected an array, but got an integer", "input"),
    "unknown field": ({"messages": []}, "Unknown parameter: 'messages'.", "messages"),
    "unknown item": ({"input": [{"type": "x"}]}, "Invalid value: 'x'", "input[0].type"),
    "unknown item field": (
        {"input": [{**SAID, "name": "a"}]},
        "Unknown parameter: 'input[0].name'",
        "input[0].name",
    ),
    "unknown role": ({"input": [{"role": "tool", "content": "x"}]}, "'tool'", "input[0].role"),
    "no content": ({"input": [{"role": "user"}]}, "Missing required", "input[0].content"),
    "empty content": ({"input": [{"role": "user", "content": []}]}, "empty array", None),
    "input_text by the assistant": (
        {"input": [SAID, {"role": "assistant", "content": [part()]}]},
        "Invalid value: 'input_text'. Supported values are: 'output_text', 'refusal'.",
        "input[1].content[0].type",
    ),
    "output_text by the user": (
        {"input": [{"role": "user", "content": [part(kind="output_text")]}]},
        "Invalid value: 'output_text'",
        "input[0].content[0].type",
    ),
    "output without a call": (
        {"input": [SAID, OUTPUT]},
        "No tool call found for function call output with call_id c1.",
        "input",
    ),
    "output before its call": ({"input": [SAID, OUTPUT, CALL]}, "No tool call found", "input"),
    "output twice": ({"input": [SAID, CALL, OUTPUT, OUTPUT]}, "No tool call found", "input"),
    "call without an output": (
        {"input": [SAID, CALL]},
        "No tool output found for function call c1.",
        "input",
    ),
    "call twice": ({"input": [SAID, CALL, CALL, OUTPUT]}, "Duplicate", "input"),
    "call without arguments": (
        {"input": [SAID, {k: v for k, v in CALL.items() if k != "arguments"}, OUTPUT]},
        "Missing required parameter: 'input[1].arguments'",
        "input[1].arguments",
    ),
    "call with an object": (
        {"input": [SAID, {**CALL, "arguments": {}}, OUTPUT]},
        "expected a string, but got an object",
        "input[1].arguments",
    ),
    "no output": (
        {"input": [SAID, CALL, {k: v for k, v in OUTPUT.items() if k != "output"}]},
        "Missing required parameter",
        "input[2].output",
    ),
    "breakpoint on the assistant": (
        {"input": [SAID, {"role": "assistant", "content": [part("a", "output_text", **MARK)]}]},
        "Unknown parameter: 'input[1].content[0].prompt_cache_breakpoint'.",
        "input[1].content[0].prompt_cache_breakpoint",
    ),
    "breakpoint on an older model": (
        {"model": "gpt-5.5", "input": [{"role": "user", "content": [part(**MARK)]}]},
        "is not supported with this model",
        "input[0].content[0].prompt_cache_breakpoint",
    ),
    "breakpoint without a mode": (
        {"input": [{"role": "user", "content": [part(prompt_cache_breakpoint={})]}]},
        "Missing required parameter",
        "input[0].content[0].prompt_cache_breakpoint.mode",
    ),
    "breakpoint with an unknown ttl": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [part(prompt_cache_breakpoint={"mode": "explicit", "ttl": "1h"})],
                }
            ]
        },
        "Invalid value: '1h'. Supported values are: '30m', '12h'.",
        "input[0].content[0].prompt_cache_breakpoint.ttl",
    ),
    "cache options on an older model": (
        {"model": "gpt-4.1", "prompt_cache_options": {"mode": "explicit"}},
        "Unsupported parameter",
        "prompt_cache_options",
    ),
    "unknown cache mode": (
        {"prompt_cache_options": {"mode": "auto"}},
        "Invalid value: 'auto'",
        "prompt_cache_options.mode",
    ),
    "unknown cache option": (
        {"prompt_cache_options": {"size": 3}},
        "Unknown parameter",
        "prompt_cache_options.size",
    ),
    "unknown retention": ({"prompt_cache_retention": "1h"}, "'in_memory', '24h'", None),
    "output limit too small": ({"max_output_tokens": 8}, ">= 16", "max_output_tokens"),
    "temperature": ({"temperature": 0.3}, "'temperature' is not supported", "temperature"),
    "effort on a model that does not reason": (
        {"model": "gpt-4.1", "reasoning": {"effort": "low"}},
        "'reasoning.effort' is not supported",
        "reasoning.effort",
    ),
    "a response that is not stored": (
        {"previous_response_id": "resp_1"},
        "Previous response with id 'resp_1' not found.",
        "previous_response_id",
    ),
    "tool of a chat completion": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "Unknown parameter: 'tools[0].function'",
        "tools[0].function",
    ),
    "tool without a name": (
        {"tools": [{"type": "function", "parameters": OBJECT}]},
        "Missing required parameter: 'tools[0].name'",
        "tools[0].name",
    ),
    "tool without parameters": (
        {"tools": [{"type": "function", "name": "f"}]},
        "Missing required parameter",
        "tools[0].parameters",
    ),
    "tool name with a dot": (
        {"tools": [{**FUNCTION, "name": "a.b"}]},
        "does not match pattern",
        "tools[0].name",
    ),
    "tool name too long": ({"tools": [{**FUNCTION, "name": "a" * 65}]}, "64", "tools[0].name"),
    "tool with a string schema": (
        {"tools": [{**FUNCTION, "parameters": {"type": "string"}}]},
        "Invalid schema for function 'f'",
        "tools[0].parameters",
    ),
    "strict tool that is open": (
        {"tools": [{**FUNCTION, "strict": True}]},
        "'additionalProperties' is required to be supplied and to be false",
        "tools[0].parameters",
    ),
    "hosted tool": ({"tools": [{"type": "web_search"}]}, "'web_search'", "tools[0].type"),
    "choice of an unknown tool": (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        "not found in 'tools'",
        "tool_choice",
    ),
    "unknown choice": ({"tools": [FUNCTION], "tool_choice": "any"}, "'any'", "tool_choice"),
    "reasoning alone": (
        {"input": [SAID, {"type": "reasoning", "id": "rs_1", "summary": []}, SAID]},
        "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        "input",
    ),
    "another model's reasoning": (
        {
            "input": [
                SAID,
                {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "Zm9v"},
                {"role": "assistant", "content": "a"},
                SAID,
            ]
        },
        "could not be verified",
        None,
    ),
    "prompt above the window": ({"input": "x" * 9_000_000}, "context window", "input"),
}

TALK = {"model": "gpt-4o", "messages": [SAID]}
ASKED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
NESTED = {"type": "function", "function": {"name": "f", "parameters": OBJECT}}

REFUSED_BY_CHAT = {
    "no model": ({"model": ...}, "Missing required parameter: 'model'", "model"),
    "blank model": ({"model": ""}, "must provide a model", None),
    "no messages": ({"messages": ...}, "Missing required parameter: 'messages'", "messages"),
    "empty messages": ({"messages": []}, "empty array", "messages"),
    "message a string": ({"messages": ["Hi"]}, "expected an object", "messages[0]"),
    "unknown field": ({"max_output_tokens": 5}, "Unknown parameter", "max_output_tokens"),
    "unknown role": ({"messages": [{"role": "bot", "content": "a"}]}, "'bot'", "messages[0].role"),
    "unknown message field": ({"messages": [{**SAID, "id": 1}]}, "Unknown", "messages[0].id"),
    "no content": ({"messages": [{"role": "user"}]}, "got null", "messages.[0].content"),
    "null by the assistant": (
        {"messages": [SAID, {"role": "assistant", "content": None}]},
        "got null",
        "messages.[1].content",
    ),
    "tool without a call": (
        {"messages": [SAID, TOLD]},
        "must be a response to a preceeding message with 'tool_calls'",
        "messages.[1].role",
    ),
    "tool for another call": (
        {"messages": [SAID, ASKED, {**TOLD, "tool_call_id": "c2"}]},
        "must be a response to a preceeding message",
        "messages.[2].role",
    ),
    "tool without an id": (
        {"messages": [SAID, ASKED, {"role": "tool", "content": "ok"}]},
        "Missing required parameter",
        "messages[2].tool_call_id",
    ),
    "call without an answer": (
        {"messages": [SAID, ASKED, SAID]},
        "The following tool_call_ids did not have response messages: c1",
        "messages",
    ),
    "call at the end": ({"messages": [SAID, ASKED]}, "did not have response messages", "messages"),
    "no calls in a list": (
        {"messages": [SAID, {"role": "assistant", "content": "a", "tool_calls": []}]},
        "empty array",
        "messages[1].tool_calls",
    ),
    "calls with one id": (
        {"messages": [SAID, {**ASKED, "tool_calls": ASKED["tool_calls"] * 2}, TOLD]},
        "Duplicate",
        "messages[1].tool_calls",
    ),
    "unknown part": (
        {"messages": [{"role": "user", "content": [part()]}]},
        "Invalid value: 'input_text'",
        "messages[0].content[0].type",
    ),
    "breakpoint on an older model": (
        {"messages": [{"role": "user", "content": [part(kind="text", **MARK)]}]},
        "is not supported with this model",
        "messages[0].content[0].prompt_cache_breakpoint",
    ),
    "breakpoint on the assistant": (
        {
            "model": "gpt-6.1-sol",
            "messages": [SAID, {"role": "assistant", "content": [part(kind="text", **MARK)]}, SAID],
        },
        "Unknown parameter",
        "messages[1].content[0].prompt_cache_breakpoint",
    ),
    "long ttl": (
        {"model": "gpt-6.1-sol", "prompt_cache_options": {"ttl": "12h"}},
        "Supported values are: '30m'",
        "prompt_cache_options.ttl",
    ),
    "no tools in a list": ({"tools": []}, "empty array", "tools"),
    "tool of the Responses API": (
        {"tools": [FUNCTION]},
        "Unknown parameter",
        "tools[0].name",
    ),
    "tool without a function": (
        {"tools": [{"type": "function"}]},
        "Missing required parameter",
        "tools[0].function",
    ),
    "choice without tools": ({"tool_choice": "auto"}, "only allowed when 'tools'", "tool_choice"),
    "choice of an unknown tool": (
        {
            "tools": [NESTED],
            "tool_choice": {"type": "function", "function": {"name": "g"}},
        },
        "no tool named 'g'",
        "tool_choice",
    ),
    "stream options without a stream": (
        {"stream_options": {"include_usage": True}},
        "only allowed when 'stream' is enabled",
        "stream_options",
    ),
    "max_tokens on a reasoning model": (
        {"model": "gpt-6.1-sol", "max_tokens": 50},
        "Use 'max_completion_tokens' instead",
        "max_tokens",
    ),
    "temperature on a reasoning model": (
        {"model": "gpt-5", "temperature": 0.5},
        "'temperature' is not supported",
        "temperature",
    ),
    "limit of zero": ({"max_tokens": 0}, ">= 1", "max_tokens"),
    "two choices": ({"n": 2}, "one choice", "n"),
    "prompt above the window": (
        {"messages": [{"role": "user", "content": "x" * 600_000}]},
        "maximum context length",
        "messages",
    ),
}


@pytest.fixture(scope="module")
def server():
    with emulator(lambda request: pytest.fail("a refused request reached the brain")) as running:
        yield running


def changed(body, changes):
    body = {**copy.deepcopy(body), **changes}
    return {name: value for name, value in body.items() if value is not ...}


def post(server, path, body):
    return httpx.post(server.url + path, json=body, headers={"x-api-key": "k"}, timeout=30)


@pytest.mark.parametrize("case", REFUSED_BY_ANTHROPIC)
def test_anthropic_refuses(server, case):
    changes, says = REFUSED_BY_ANTHROPIC[case]
    answer = post(server, "/v1/messages", changed(ANTHROPIC, changes))
    assert answer.status_code == 400
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert says in body["error"]["message"]
    assert answer.headers["request-id"] == body["request_id"]


@pytest.mark.parametrize("case", REFUSED_BY_RESPONSES)
def test_the_responses_api_refuses(server, case):
    changes, says, param = REFUSED_BY_RESPONSES[case]
    answer = post(server, "/v1/responses", changed(RESPONSES, changes))
    check_openai(answer, says, param)


@pytest.mark.parametrize("case", REFUSED_BY_CHAT)
def test_chat_completions_refuses(server, case):
    changes, says, param = REFUSED_BY_CHAT[case]
    answer = post(server, "/v1/chat/completions", changed(TALK, changes))
    check_openai(answer, says, param)


def check_openai(answer, says, param):
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    if param is not None:
        assert error["param"] == param


PATHS = pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", ANTHROPIC),
        ("/v1/responses", RESPONSES),
        ("/v1/chat/completions", TALK),
    ],
)


@PATHS
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"Hi"', b"\xff", b"null"])
def test_a_body_that_is_no_object_is_refused(server, path, body, content):
    answer = httpx.post(server.url + path, content=content, headers={"x-api-key": "k"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@PATHS
def test_a_key_is_needed(server, path, body):
    for headers in (
        {},
        {"x-api-key": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic x"},
    ):
        answer = httpx.post(server.url + path, json=body, headers=headers)
        assert answer.status_code == 401
        assert "key" in answer.json()["error"]["message"]


@PATHS
def test_keys_and_models_can_be_listed(start, path, body):
    server = start(keys=["good"], models=[body["model"]])
    bad = httpx.post(server.url + path, json=body, headers={"x-api-key": "bad"})
    good = httpx.post(server.url + path, json=body, headers={"authorization": "Bearer good"})
    assert (bad.status_code, good.status_code) == (401, 200)
    other = {**body, "model": "other"}
    missing = httpx.post(server.url + path, json=other, headers={"x-api-key": "good"})
    assert missing.status_code == 404
    assert "other" in missing.json()["error"]["message"]


@PATHS
def test_what_is_accepted_is_accepted(start, path, body):
    answer = post(start(), path, body)
    assert answer.status_code == 200


def test_a_refused_request_costs_nothing_and_is_on_the_bill(start):
    server = start()
    post(server, "/v1/messages", changed(ANTHROPIC, {"max_tokens": ...}))
    (bill,) = server.bills
    assert (bill.status, bill.cost_micro, bill.usage.input) == (400, 0, 0)
    assert bill.model == "anthropic:claude-opus-5-5"


def test_the_sdks_raise_their_own_errors(server, connect):
    client = connect("anthropic", server)
    with pytest.raises(anthropic.BadRequestError, match="at least one message"):
        client.messages.create(model="claude-opus-5-5", max_tokens=5, messages=[])
    client = connect("openai", server)
    with pytest.raises(openai.BadRequestError, match="empty array") as caught:
        client.responses.create(model="gpt-6.1-sol", input=[])
    assert (caught.value.param, caught.value.code) == ("input", "empty_array")
    with pytest.raises(openai.BadRequestError, match="empty array"):
        client.chat.completions.create(model="gpt-4o", messages=[])
