"""Requests that look unusual and that the vendors accept all the same."""

import httpx
import pytest

HI = {"role": "user", "content": "Hi"}
USES = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {"n": n}} for n in range(3)]
RESULTS = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": ""} for n in range(3)]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}

ANTHROPIC = {
    "turns of one role in a row": [HI, HI, {"role": "assistant", "content": "a"}, HI],
    "results over two messages": [
        HI,
        {"role": "assistant", "content": USES[:2]},
        {"role": "user", "content": RESULTS[:1]},
        {"role": "user", "content": [RESULTS[1], {"type": "text", "text": "and?"}]},
    ],
    "results in another order": [
        HI,
        {"role": "assistant", "content": USES},
        {"role": "user", "content": RESULTS[::-1]},
    ],
    "an image and a result of parts": [
        {"role": "user", "content": [IMAGE, {"type": "text", "text": "this?"}]},
        {"role": "assistant", "content": USES[:1]},
        {
            "role": "user",
            "content": [
                {**RESULTS[0], "content": [{"type": "text", "text": "a"}], "is_error": True}
            ],
        },
    ],
    "a system message in mid-conversation": [HI, {"role": "system", "content": "Be brief."}],
}


@pytest.mark.parametrize("case", ANTHROPIC)
def test_anthropic_accepts(start, connect, case):
    client = connect("http", start())
    body = {"model": "claude-opus-5-5", "max_tokens": 50, "messages": ANTHROPIC[case]}
    assert client.post("/v1/messages", json=body).status_code == 200


def test_an_older_claude_continues_a_prefill_and_takes_a_temperature(start, connect):
    client = connect("http", start())
    messages = [HI, {"role": "assistant", "content": "So"}]
    body = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": messages}
    assert client.post("/v1/messages", json={**body, "temperature": 0.2}).status_code == 200


def test_text_as_a_string_or_as_a_block_is_the_same_prompt(start, connect):
    server = start()
    client = connect("http", server)
    for content in ("x" * 4_000, [{"type": "text", "text": "x" * 4_000}]):
        body = {
            "model": "claude-opus-5-5",
            "max_tokens": 50,
            "cache_control": {"type": "ephemeral"},
        }
        client.post(
            "/v1/messages", json={**body, "messages": [{"role": "user", "content": content}]}
        )
    assert [bill.usage.read for bill in server.bills] == [0, 1_000]


def test_a_request_is_not_changed_by_being_read(start, connect):
    """The raw body that a brain sees is the one that was sent."""
    seen = []

    def brain(request):
        from agentmesh.testing import Answer

        seen.append(dict(request.raw))
        return Answer("ok")

    client = connect("http", start(brain))
    body = {"model": "claude-opus-5-5", "max_tokens": 5, "messages": [HI, HI, HI]}
    client.post("/v1/messages", json=body)
    assert seen == [body]


def test_a_brain_sees_one_form_whatever_the_api(start, connect):
    from agentmesh.testing import Answer

    seen = []

    def brain(request):
        seen.append((request.system, request.turn, request.results, request.user_text))
        return Answer("ok")

    client = connect("http", start(brain))
    call = {"name": "f", "arguments": '{"n":0}'}
    client.post(
        "/v1/messages",
        json={
            "model": "claude-opus-5-5",
            "max_tokens": 5,
            "system": "Be kind.",
            "messages": [
                HI,
                {"role": "assistant", "content": USES[:1]},
                {"role": "user", "content": [{**RESULTS[0], "content": "r"}]},
            ],
        },
    )
    client.post(
        "/v1/responses",
        json={
            "model": "gpt-6.1-sol",
            "instructions": "Be kind.",
            "input": [
                HI,
                {"type": "function_call", "call_id": "t0", **call},
                {"type": "function_call_output", "call_id": "t0", "output": "r"},
            ],
        },
    )
    client.post(
        "/v1/chat/completions",
        json={
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be kind."},
                HI,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "t0", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "t0", "content": "r"},
            ],
        },
    )
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert (seen[0][0], seen[0][2], seen[0][3]) == ("Be kind.", ("r",), "Hi")


def test_large_and_odd_text_survives(start, connect):
    text = 'é中\u2028"\\\n😀' * 1_000
    for path, body, read in [
        ("/v1/messages", {"max_tokens": 9_000}, lambda b: b["content"][0]["text"]),
        ("/v1/responses", {}, lambda b: b["output"][0]["content"][0]["text"]),
        ("/v1/chat/completions", {}, lambda b: b["choices"][0]["message"]["content"]),
    ]:
        client = connect("http", start())
        field = "input" if path == "/v1/responses" else "messages"
        body = {"model": "m", field: [{"role": "user", "content": text}], **body}
        assert read(client.post(path, json=body).json()) == text


def test_a_model_of_the_vendor_is_not_needed(start):
    server = start()
    answer = httpx.post(
        f"{server.url}/v1/messages",
        json={"model": "claude-next-9", "max_tokens": 9, "messages": [HI]},
        headers={"x-api-key": "k"},
    )
    assert answer.status_code == 200
    assert server.bills[0].cost_micro is None
