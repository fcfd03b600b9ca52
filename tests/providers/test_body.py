"""A request body is a pure function: the bytes of each kind of prompt are kept as files."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError
from agentmesh.prompt import Entry, Marks, Prompt, Segment, ToolSpec
from agentmesh.providers import ChatModel, connect, forget, to_messages, to_tools, wire
from agentmesh.providers.transport import encode

GOLDEN = Path(__file__).parent / "golden"
URL = "http://127.0.0.1:9/v1"
MODELS = [
    "anthropic:claude-opus-5-5",
    "openai:gpt-6.1-sol",
    "openai:gpt-4.1",
    "openai-compatible:qwen3-8b",
]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def call(call_id: str, arguments: str = "{}", name: str = "find") -> dict[str, Any]:
    return {"type": "call", "id": call_id, "name": name, "arguments": arguments}


def result(call_id: str, value: str, *, error: bool = False) -> dict[str, Any]:
    return {"type": "result", "id": call_id, "name": "find", "text": value, "error": error}


def opaque(model: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"type": "opaque", "model": model, "data": data}


def entry(seq: int, kind: Any, *blocks: dict[str, Any]) -> Entry:
    return Entry(seq, 1, seq, kind, canonical.dumps({"blocks": list(blocks)}))


PROMPT = Prompt(
    tools=(
        ToolSpec("refund", "Pay back an order.", '{"properties":{},"type":"object"}'),
        ToolSpec(
            "find",
            "",
            '{"properties":{"q":{"type":"string"}},"required":["q"],"type":"object"}',
        ),
    ),
    segments=(Segment("core", "You are the desk."), Segment("profile", "  "), Segment("task", "T")),
    entries=(
        entry(1, "assistant", text("Hello!")),
        entry(2, "user", text("Where is my Päckchen? 📦")),
        entry(3, "note", text("set order=#1")),
        entry(
            4,
            "assistant",
            opaque(
                "anthropic:claude-opus-5-5",
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            ),
            opaque(
                "openai:gpt-6.1-sol",
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
            ),
            opaque("openai-compatible:qwen3-8b", {"field": "reasoning_content", "text": "well"}),
            text("\n\n"),
            text("Let me look."),
            call("toolu_1", '{"q": "päckchen",  "a": 1.0}'),
            call("not valid!"),
        ),
        entry(5, "tool", result("toolu_1", "on its way"), result("not valid!", "", error=True)),
        entry(6, "note", text("the customer waits")),
    ),
    tail="Today is Tuesday.",
    marks=Marks({"tools": "long", "core": "long", "task": "short"}, {5: "short"}),
    cache_key="support-1",
)


def model(name: str, **fields: Any) -> ChatModel:
    return connect(name, base_url=URL, **fields)


def body_of(name: str, prompt: Prompt = PROMPT, **fields: Any) -> dict[str, Any]:
    return model(name).body(to_messages(prompt, name), tools=to_tools(prompt), **fields)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_the_golden_ones(name: str) -> None:
    golden = GOLDEN / f"{name.replace(':', '-')}.json"
    assert encode(body_of(name)) == golden.read_bytes()


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import sys, importlib.util as u\n"
        "spec = u.spec_from_file_location('bodies', sys.argv[1])\n"
        "bodies = u.module_from_spec(spec); spec.loader.exec_module(bodies)\n"
        "from agentmesh.providers.transport import encode\n"
        "sys.stdout.buffer.write(b'|'.join(encode(bodies.body_of(m)) for m in bodies.MODELS))\n"
    )
    seen = set()
    for seed in ("0", "1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", code, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        seen.add(run.stdout)
    golden = [(GOLDEN / f"{name.replace(':', '-')}.json").read_bytes() for name in MODELS]
    assert seen == {b"|".join(golden)}


def test_anthropic_user_speaks_first_and_results_come_first() -> None:
    messages = body_of(MODELS[0])["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == [text("(the conversation begins)")]
    kinds = [block["type"] for block in messages[-1]["content"]]
    assert kinds == ["tool_result", "tool_result", "text", "text"]
    assert messages[-1]["content"][1]["content"] == [text("(empty)")], "an error must say something"
    assert messages[-1]["content"][1]["is_error"] is True


def test_anthropic_an_empty_result_has_no_text_block() -> None:
    entries = (
        entry(1, "user", text("x")),
        entry(2, "assistant", call("c")),
        entry(3, "tool", result("c", " ")),
    )
    last = body_of(MODELS[0], Prompt((), (), entries))["messages"][-1]
    assert last["content"] == [{"type": "tool_result", "tool_use_id": "c"}]


def test_anthropic_marks_become_cache_control() -> None:
    body = body_of(MODELS[0])
    long, short = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    assert [tool["name"] for tool in body["tools"]] == ["find", "refund"]
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, long]
    assert [block.get("cache_control") for block in body["system"]] == [long, short]
    marked = [b for m in body["messages"] for b in m["content"] if "cache_control" in b]
    assert [b["type"] for b in marked] == ["tool_result"]


def test_anthropic_refuses_a_fifth_mark() -> None:
    marked = [HumanMessage([{**text("x"), "mark": "short"} for _ in range(5)])]
    with pytest.raises(InputError, match="5 cache breakpoints"):
        model(MODELS[0]).body(marked)


def test_a_mark_on_a_blank_segment_moves_to_the_one_before() -> None:
    prompt = Prompt(
        (), (Segment("core", "C"), Segment("task", " ")), (), "x", Marks({"task": "long"})
    )
    system = body_of(MODELS[0], prompt)["system"]
    assert system == [{**text("C"), "cache_control": {"type": "ephemeral", "ttl": "1h"}}]


@pytest.mark.parametrize("name", MODELS)
def test_bound_blocks_reach_their_own_model_alone(name: str) -> None:
    sent = encode(body_of(name)).decode()
    assert ('"signature":"c2ln"' in sent) == (name == MODELS[0])
    assert ('"encrypted_content":"e"' in sent) == (name == MODELS[1])
    assert ('"reasoning_content":"well"' in sent) == (name == MODELS[3])
    assert '"mark"' not in sent


def test_openai_breakpoints_only_where_the_model_has_them() -> None:
    new, old = body_of(MODELS[1]), body_of(MODELS[2])
    parts = [p for item in new["input"] for p in item.get("content") or item.get("output") or ()]
    marks = [p.get("prompt_cache_breakpoint") for p in parts if "prompt_cache_breakpoint" in p]
    assert marks == [{"mode": "explicit", "ttl": "12h"}, {"mode": "explicit"}, {"mode": "explicit"}]
    assert new["prompt_cache_options"] == {"mode": "explicit"}
    assert "prompt_cache" not in encode(old).decode().replace("prompt_cache_key", "")
    assert new["prompt_cache_key"] == old["prompt_cache_key"] == "support-1"
    assert new["store"] is False


def test_openai_without_marks_keeps_the_implicit_breakpoint() -> None:
    assert "prompt_cache_options" not in model(MODELS[1]).body([HumanMessage("Hi")])


def test_arguments_reach_openai_as_they_were_written() -> None:
    items = body_of(MODELS[1])["input"]
    assert next(i for i in items if i["type"] == "function_call")["arguments"] == (
        '{"q": "päckchen",  "a": 1.0}'
    )
    calls = next(m for m in body_of(MODELS[3])["messages"] if "tool_calls" in m)["tool_calls"]
    assert calls[0]["function"]["arguments"] == '{"q": "päckchen",  "a": 1.0}'


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"b":1,"a":[1.0,null]}', '{"b":1,"a":[1.0,null]}'),
        ('{"cut": "of', '{"arguments":"{\\"cut\\": \\"of"}'),
        ("[1]", '{"arguments":"[1]"}'),
        ('{"n": NaN}', '{"arguments":"{\\"n\\": NaN}"}'),
        ('{"s": "\\ud83d"}', '{"s":"�"}'),
    ],
)
def test_anthropic_input_is_always_an_object(arguments: str, expected: str) -> None:
    prompt = Prompt(
        (), (), (entry(1, "user", text("x")), entry(2, "assistant", call("c", arguments)))
    )
    block = body_of(MODELS[0], prompt)["messages"][1]["content"][0]
    assert encode(block["input"]).decode() == expected


@pytest.mark.parametrize("name", MODELS)
def test_call_ids_are_accepted_unique_and_paired(name: str) -> None:
    entries = [entry(0, "user", text("x"))]
    for step in (1, 3):
        blocks = [call("call_0"), call(""), call("a/b" * 40), call("call_0")]
        entries.append(entry(step, "assistant", *blocks))
        entries.append(entry(step + 1, "tool", *(result(b["id"], "ok") for b in blocks)))
    sent = encode(body_of(name, Prompt((), (), tuple(entries)))).decode()
    loaded = json.loads(sent)
    calls, results = ids_in(loaded)
    assert calls == results
    assert len(set(calls)) == len(calls) == 8
    assert all(len(i) <= 64 and i.replace("_", "").replace("-", "").isalnum() for i in calls)
    assert calls[0] == "call_0"


def ids_in(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    calls, results = [], []
    items = body.get("input") or [
        part
        for m in body["messages"]
        for part in (m["content"] if isinstance(m["content"], list) else [m])
    ]
    for item in items:
        calls += [item["id"]] if item.get("type") == "tool_use" else []
        calls += [item["call_id"]] if item.get("type") == "function_call" else []
        calls += [c["id"] for c in item.get("tool_calls", ())]
        results += [item["tool_use_id"]] if "tool_use_id" in item else []
        results += [item["tool_call_id"]] if "tool_call_id" in item else []
        results += [item["call_id"]] if item.get("type") == "function_call_output" else []
    return calls, results


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_of_a_message_changes_no_byte(name: str) -> None:
    frozen = to_messages(PROMPT, name)
    copies = [message.model_copy(deep=True) for message in frozen]
    tools = to_tools(PROMPT)
    chat = model(name)
    first, again = chat.body(frozen, tools=tools), chat.body(frozen, tools=tools)
    assert encode(first) == encode(again) == encode(chat.body(copies, tools=tools))
    assert _shared(first, again)
    assert not _shared(first, chat.body(copies, tools=tools))
    copies[1].content = "another"
    assert "another" in encode(chat.body(copies, tools=tools)).decode()


def _shared(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Say whether two bodies hold the very same piece of the first message after the system's."""
    if "input" in one:
        return one["input"][1] is two["input"][1]
    first, second = one["messages"], two["messages"]
    if isinstance(first[1]["content"], list):
        return first[1]["content"][0] is second[1]["content"][0]
    return first[1] is second[1]


def test_nothing_is_kept_of_messages_that_are_gone() -> None:
    forget()
    messages = to_messages(PROMPT, MODELS[0])
    model(MODELS[0]).body(messages)
    assert wire._frozen
    del messages
    forget()
    gc.collect()
    assert not wire._frozen


@pytest.mark.parametrize("name", MODELS)
def test_text_and_list_content_are_one_form(name: str) -> None:
    plain = [SystemMessage("S"), HumanMessage("Hi"), AIMessage("Ho"), HumanMessage("Hi")]
    listed = [type(m)([text(m.content), text(" ")]) for m in plain]  # type: ignore[dict-item]
    assert encode(model(name).body(plain)) == encode(model(name).body(listed))


@pytest.mark.parametrize("name", MODELS)
def test_tools_are_sorted_however_they_come(name: str) -> None:
    tools = to_tools(PROMPT, marks=False)
    messages = [HumanMessage("x")]
    one = model(name).body(messages, tools=tools)
    assert encode(one) == encode(model(name).body(messages, tools=tools[::-1]))
    with pytest.raises(InputError, match="without a name"):
        model(name).body(messages, tools=[{"type": "function", "function": {}}])


@pytest.mark.parametrize(
    ("name", "choice", "expected"),
    [
        (MODELS[0], "any", {"type": "any"}),
        (MODELS[0], "find", {"type": "tool", "name": "find"}),
        (
            MODELS[0],
            {"type": "function", "function": {"name": "find"}},
            {"type": "tool", "name": "find"},
        ),
        (MODELS[0], "none", {"type": "none"}),
        (MODELS[1], "any", "required"),
        (MODELS[1], "find", {"type": "function", "name": "find"}),
        (MODELS[3], True, "required"),
        (MODELS[3], "find", {"type": "function", "function": {"name": "find"}}),
    ],
)
def test_tool_choice(name: str, choice: Any, expected: Any) -> None:
    assert body_of(name, tool_choice=choice)["tool_choice"] == expected


@pytest.mark.parametrize("name", MODELS)
def test_fields_of_the_vendor_pass_through_but_not_over_ours(name: str) -> None:
    chat = model(name, top_p=0.5)
    body = chat.body([HumanMessage("x")], temperature=0.1, max_tokens=7, top_p=None)
    assert body["temperature"] == 0.1
    assert 7 in (body.get("max_tokens"), body.get("max_output_tokens"))
    assert "top_p" not in body
    assert chat.body([HumanMessage("x")])["top_p"] == 0.5
    with pytest.raises(ConfigError, match="'model' cannot be set directly"):
        chat.body([HumanMessage("x")], model="other")


def test_only_text_is_accepted() -> None:
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])
    for name in MODELS:
        with pytest.raises(InputError, match="'image_url'"):
            model(name).body([image])


def test_alternate_merges_the_users_side() -> None:
    prompt = Prompt((), (), (entry(1, "digest", text("D")), entry(2, "user", text("Q"))), "now")
    messages = to_messages(prompt, MODELS[3])
    merged = model(MODELS[3], alternate=True).body(messages)["messages"]
    assert merged == [{"role": "user", "content": "D\n\nQ\n\nnow"}]
    assert len(model(MODELS[3]).body(messages)["messages"]) == 3


def test_foreign_messages_are_understood() -> None:
    messages = [
        HumanMessage("x"),
        AIMessage(
            [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}, "index": 1},
            ],
            tool_calls=[{"name": "find", "args": {"q": 1}, "id": "t1"}],
        ),
        ToolMessage("r", tool_call_id="t1"),
    ]
    sent = model(MODELS[0]).body(messages)["messages"][1]["content"]
    assert sent == [{"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}}]


words = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Whole turns: the user's words and notes, some steps of calls and results, an answer."""
    entries: list[Entry] = []

    def add(kind: str, *blocks: dict[str, Any]) -> None:
        entries.append(entry(len(entries), kind, *blocks))

    for _ in range(draw(st.integers(1, 3))):
        add("user", text(draw(words) + "u"))
        if draw(st.booleans()):
            add("note", text(draw(words)))
        for _ in range(draw(st.integers(0, 2))):
            ids = draw(st.lists(st.sampled_from(["c1", "c2", "x y", ""]), min_size=1, max_size=3))
            add("assistant", text(draw(words)), *(call(i, '{"q": 1}') for i in ids))
            add("tool", *(result(i, draw(words)) for i in ids))
        add("assistant", text(draw(words) + "a"))
    return entries


def flat(body: dict[str, Any]) -> list[Any]:
    """A body's conversation as the list of what the model reads, one after another."""
    if "input" in body:
        return list(body["input"])
    return [
        (message["role"], part)
        for message in body["messages"]
        for part in (
            message["content"]
            if isinstance(message["content"], list)
            else [canonical.dumps(message)]
        )
    ]


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=50)
@given(log=logs(), data=st.data())
def test_a_growing_log_only_appends_to_the_body(
    name: str, log: list[Entry], data: st.DataObject
) -> None:
    ends = [i + 1 for i, e in enumerate(log) if e.kind in ("user", "note", "tool")]
    ends = [i for i in ends if i == len(log) or log[i].kind == "assistant"]
    end = data.draw(st.sampled_from(ends))
    before = flat(body_of(name, Prompt((), (), tuple(log[:end]))))
    after = flat(body_of(name, Prompt((), (), tuple(log))))
    assert after[: len(before)] == before


if __name__ == "__main__":
    for each in MODELS:
        (GOLDEN / f"{each.replace(':', '-')}.json").write_bytes(encode(body_of(each)))
