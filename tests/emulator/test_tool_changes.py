"""Tools that change in mid-conversation: what each vendor takes, refuses and bills."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

from agentmesh.testing import Answer, emulator

INLINE = "inline-tools-2026-09-15"
BY_NAME = "mid-conversation-tool-changes-2026-07-01"
SCHEMA = {"type": "object", "properties": {}}
A = {"name": "a", "description": "One tool. " * 40, "input_schema": SCHEMA}
B = {"name": "b", "description": "Another. " * 40, "input_schema": SCHEMA}
RULES = [{"type": "text", "text": "rule " * 900, "cache_control": {"type": "ephemeral"}}]
HI = {"role": "user", "content": "Hi"}
YES = {"role": "assistant", "content": "Yes"}
FUNCTION = {"type": "function", "name": "a", "parameters": SCHEMA, "strict": False}
OTHER = {**FUNCTION, "name": "b"}
MORE = {"type": "additional_tools", "role": "developer", "tools": [OTHER]}


def change(kind, *tools):
    return {"role": "system", "content": [{"type": f"tool_{kind}", "tool": t} for t in tools]}


def named(name):
    return {"type": "tool_reference", "name": name}


def defined(tool):
    return {"type": "tool_definition", "definition": tool}


@pytest.fixture
def seen():
    return []


@pytest.fixture
def server(seen):
    def brain(request):
        seen.append([tool["name"] for tool in request.tools])
        return Answer("ok")

    with emulator(brain) as running:
        yield running


def claude(server, messages, beta=INLINE, **more):
    body = {"model": "claude-opus-5-5", "max_tokens": 50, "system": RULES, "tools": [A]}
    headers = {"x-api-key": "k", **({"anthropic-beta": beta} if beta else {})}
    given = {**body, "messages": messages, **more}
    return httpx.post(f"{server.url}/v1/messages", json=given, headers=headers, timeout=30)


def test_a_tool_added_by_value_leaves_the_prefix_cached(server, seen):
    claude(server, [HI])
    usage = claude(server, [HI, YES, HI, change("addition", defined(B))]).json()["usage"]
    assert usage["cache_read_input_tokens"] > 1_000
    assert usage["cache_creation_input_tokens"] == 0
    assert usage["input_tokens"] < 110
    cold = claude(server, [HI, YES, HI], tools=[A, B]).json()["usage"]
    assert cold["cache_read_input_tokens"] == 0
    assert seen == [["a"], ["a", "b"], ["a", "b"]]


def test_a_removed_tool_is_offered_no_more_and_may_come_back(server, seen):
    gone = change("removal", named("a"))
    for messages in ([HI, gone], [HI, gone, YES, HI, change("addition", named("a"))]):
        assert claude(server, messages, beta=f"other, {BY_NAME}").status_code == 200
    assert seen == [[], ["a"]]


def test_a_deferred_tool_is_read_where_it_is_added(server, seen):
    late = {**B, "defer_loading": True}
    first = claude(server, [HI]).json()["usage"]
    hidden = claude(server, [HI], tools=[A, late]).json()["usage"]
    assert hidden["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    shown = claude(server, [HI, change("addition", named("b"))], tools=[A, late]).json()["usage"]
    assert shown["cache_read_input_tokens"] == hidden["cache_read_input_tokens"]
    assert shown["input_tokens"] > hidden["input_tokens"] + 90
    assert seen == [["a"], ["a"], ["a", "b"]]


def test_the_sdk_takes_the_vendors_own_form_and_names_its_error(server):
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        given = {"model": "claude-opus-5-5", "max_tokens": 50, "tools": [A], "betas": [INLINE]}
        message = client.beta.messages.create(
            messages=[HI, change("addition", defined(B))], **given
        )
        assert message.content[0].text == "ok"
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.messages.create(messages=[HI, change("removal", named("z"))], **given)
    assert caught.value.error_code == "tool_reference_unresolved"


REFUSED = {
    "no beta": ([HI, change("addition", defined(B))], {"beta": ""}, "expected tags: 'text'"),
    "a definition by the older beta": (
        [HI, change("addition", defined(B))],
        {"beta": BY_NAME},
        "expected tags: 'tool_reference'",
    ),
    "a removal by value": ([HI, change("removal", defined(A))], {}, "'tool_reference'"),
    "an unknown name": ([HI, change("removal", named("z"))], {}, "'z' is not defined"),
    "no tool": ([HI, {"role": "system", "content": [{"type": "tool_removal"}]}], {}, "required"),
    "no name": ([HI, change("removal", {"type": "tool_reference"})], {}, "name: Field required"),
    "an unknown field": ([HI, change("removal", {**named("a"), "x": 1})], {}, "tool.x: Extra"),
    "a definition without a schema": (
        [HI, change("addition", defined({"name": "c"}))],
        {},
        "definition.custom.input_schema: Field required",
    ),
    "from the user": ([{**change("removal", named("a")), "role": "user"}], {}, "not permitted in"),
    "before the user": ([HI, change("removal", named("a")), HI], {}, "must precede an 'assistant'"),
    "after the assistant": (
        [HI, YES, change("removal", named("a"))],
        {},
        "must follow a 'user' message",
    ),
    "an older model": (
        [HI, change("removal", named("a"))],
        {"model": "claude-sonnet-4-5"},
        "Input should be 'user' or 'assistant'",
    ),
    "every tool deferred": ([HI], {"tools": [{**A, "defer_loading": True}]}, "All tools have"),
    "a deferred tool with a mark": (
        [HI],
        {"tools": [A, {**B, "defer_loading": True, "cache_control": {"type": "ephemeral"}}]},
        "cannot have both defer_loading",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anthropic_refuses(server, seen, case):
    messages, more, says = REFUSED[case]
    answer = claude(server, messages, **more)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert seen == []


def gpt(server, items, **more):
    given = {"model": "gpt-6.1-sol", "input": items, "tools": [FUNCTION], **more}
    headers = {"authorization": "Bearer k"}
    return httpx.post(f"{server.openai_url}/responses", json=given, headers=headers, timeout=30)


def only(*names, **more):
    tools = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "mode": "auto", "tools": tools, **more}


def test_additional_and_allowed_tools_leave_the_prefix_cached(server, seen):
    long = {"role": "user", "content": "word " * 2_000}
    gpt(server, [long])
    for items, more in (
        ([long, YES, HI, MORE], {}),
        ([long, YES, HI, MORE], {"tool_choice": only("b")}),
    ):
        usage = gpt(server, items, **more).json()["usage"]
        assert usage["input_tokens_details"]["cached_tokens"] > 2_000
    cold = gpt(server, [long, YES, HI], tools=[FUNCTION, OTHER]).json()["usage"]
    assert cold["input_tokens_details"]["cached_tokens"] == 0
    assert seen == [["a"], ["a", "b"], ["b"], ["a", "b"]]


def test_openais_sdk_takes_both(server, seen):
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        client.responses.create(
            model="gpt-6.1-sol",
            input=[HI, MORE],  # type: ignore[list-item]
            tools=[FUNCTION],  # type: ignore[list-item]
            tool_choice=only("b"),  # type: ignore[arg-type]
        )
    assert seen == [["b"]]


@pytest.mark.parametrize(
    ("items", "more", "says"),
    [
        ([HI], {"tool_choice": only("z")}, "not found in 'tools' parameter: z"),
        ([HI], {"tool_choice": only("a", mode="any")}, "Supported values are: 'auto', 'required'"),
        ([HI], {"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
        ([HI], {"tool_choice": only("a", x=1)}, "Unknown parameter: 'tool_choice.x'"),
        ([HI, {**MORE, "role": "user"}], {}, "Supported values are: 'developer'"),
        ([HI, {**MORE, "tools": [{"type": "function"}]}], {}, "input[1].tools[0].parameters"),
        ([HI, {**MORE, "content": "x"}], {}, "Unknown parameter: 'input[1].content'"),
    ],
)
def test_openai_refuses(server, seen, items, more, says):
    answer = gpt(server, items, **more)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert seen == []
