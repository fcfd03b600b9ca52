"""Tools that change in mid-session: what is sent only grows, and every process sees the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh.memory import Core, Memory
from agentmesh.memory.conformance import answer, call
from agentmesh.memory.turns import Turn
from agentmesh.memory.views import View
from agentmesh.prompt import Entry, Prompt, ToolSpec
from agentmesh.providers import connect, to_messages, to_tools
from agentmesh.toolview import Change, ToolView

CLAUDE = "anthropic:claude-opus-5-5"
OLD_CLAUDE = "anthropic:claude-sonnet-4-5"
GPT = "openai:gpt-6.1-sol"
LOCAL = "openai-compatible:qwen3-8b"
MODELS = (CLAUDE, OLD_CLAUDE, GPT, LOCAL)
TEXT = "You answer. " * 400


def spec(name: str, words: str = "Does it.") -> ToolSpec:
    return ToolSpec(name, words, '{"properties":{},"type":"object"}')


A, B, C = spec("a"), spec("b"), spec("c")
SETS = st.lists(st.sampled_from([A, spec("a", "Does it anew."), B, C]), unique_by=lambda s: s.name)


def turn_with(memory: Memory, *tools: ToolSpec, core: str = TEXT) -> Turn:
    """Open a turn of an agent with these tools."""
    turn = memory.open_turn(
        session="s1", user="u1", agent="a", blocks=[{"type": "text", "text": "hi"}]
    )
    turn.recall(Core(tuple(sorted(tools, key=lambda item: item.name)), core))
    turn.refresh()
    return turn


def say(turn: Turn) -> None:
    """Make a call in a turn and finish it."""
    call(turn)
    answer(turn)


def body(prompt: Prompt, model: str, **more: Any) -> dict[str, Any]:
    """Return the request's body, its marks left out: those move."""
    made = connect(model, api_key="k", base_url="http://127.0.0.1:9").body(
        to_messages(prompt, model), tools=to_tools(prompt), **more
    )
    return json.loads(_unmarked(made))  # type: ignore[no-any-return]


def _unmarked(value: Any) -> str:
    def clean(part: Any) -> Any:
        if isinstance(part, dict):
            gone = ("cache_control", "prompt_cache_breakpoint")
            return {key: clean(inner) for key, inner in part.items() if key not in gone}
        return [clean(inner) for inner in part] if isinstance(part, list) else part

    return json.dumps(clean(copy.deepcopy(value)))


@pytest.fixture
def memory() -> Any:
    kept = Memory("sqlite://", clock=lambda: 2.0)
    yield kept
    kept.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SETS, min_size=1, max_size=6))
def test_changes_lead_to_the_tools_that_are_wanted(steps: list[list[ToolSpec]]) -> None:
    entries: list[Entry] = []
    for number, wanted in enumerate(steps):
        change = ToolView.of([A], entries).towards(wanted)
        body_ = json.dumps({"blocks": [change.block()]})
        entries.append(Entry(number + 1, 1, 0, "tools", body_))
        view = ToolView.of([A], entries)
        assert view.offered == {item.name: item for item in wanted}
        assert view.withdrawn == view.declared - {item.name for item in wanted}
        assert not any(view.towards(wanted))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SETS, min_size=2, max_size=6), st.booleans())
def test_nothing_that_was_sent_moves_and_every_call_can_be_rebuilt(
    steps: list[list[ToolSpec]], reopened: bool
) -> None:
    memory = Memory("sqlite://", clock=lambda: 2.0)
    last: dict[str, dict[str, Any]] = {}
    made = []
    for wanted in [[A, B], *steps]:
        if reopened:
            memory._views.clear()
        turn = turn_with(memory, *wanted)
        assert turn.epoch.number == 1
        made.append(prompt := call(turn, model=CLAUDE))
        for model in MODELS:
            sent = body(prompt, model)
            key = "input" if model == GPT else "messages"
            if model in last:
                before = last[model]
                assert sent.get("tools") == before.get("tools")
                assert sent.get("system") == before.get("system")
                assert sent[key][: len(before[key])] == before[key]
            last[model] = sent
        answer(turn)
    rebuilt = [memory.rebuild("s1", one) for one in memory.ledger.calls()]
    assert [(p.tools, p.segments, p.entries) for p in rebuilt] == [
        (p.tools, p.segments, p.entries) for p in made
    ]
    assert memory.verify().calls == len(made)
    memory.close()


def test_claude_is_told_by_a_system_message_after_the_user(memory: Memory) -> None:
    say(turn_with(memory, A, B))
    sent = body(call(turn_with(memory, A, C)), CLAUDE)
    assert [message["role"] for message in sent["messages"]] == [
        "user",
        "assistant",
        "user",
        "system",
    ]
    added, removed = sent["messages"][-1]["content"]
    assert added == {
        "type": "tool_addition",
        "tool": {
            "type": "tool_definition",
            "definition": {
                "name": "c",
                "description": "Does it.",
                "input_schema": {"type": "object", "properties": {}},
            },
        },
    }
    assert removed == {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "b"}}
    assert [tool["name"] for tool in sent["tools"]] == ["a", "b"]


def test_gpt_gets_an_item_and_a_narrower_choice(memory: Memory) -> None:
    say(turn_with(memory, A, B))
    prompt = call(turn_with(memory, A, C))
    sent = body(prompt, GPT)
    item = sent["input"][-1]
    assert (item["type"], item["role"]) == ("additional_tools", "developer")
    assert [tool["name"] for tool in item["tools"]] == ["c"]
    assert [tool["name"] for tool in sent["tools"]] == ["a", "b"]
    allowed = [{"type": "function", "name": name} for name in ("a", "c")]
    assert sent["tool_choice"] == {"type": "allowed_tools", "mode": "auto", "tools": allowed}
    assert body(prompt, GPT, withheld=["a", "c"])["tool_choice"] == "none"
    forced = body(prompt, GPT, tool_choice="any")["tool_choice"]
    assert (forced["mode"], forced["tools"]) == ("required", allowed)
    assert body(prompt, GPT, tool_choice="none")["tool_choice"] == "none"


def test_a_tool_that_comes_back_is_allowed_again(memory: Memory) -> None:
    for tools in ((A, B), (A,)):
        say(turn_with(memory, *tools))
    sent = body(call(turn_with(memory, A, B)), GPT)
    assert "tool_choice" not in sent
    assert "additional_tools" not in json.dumps(sent)


@pytest.mark.parametrize("model", [OLD_CLAUDE, LOCAL, "langchain:fake:model"])
def test_a_model_without_a_way_reads_what_is_gone_and_waits_for_what_is_new(
    memory: Memory, model: str
) -> None:
    say(turn_with(memory, A, B))
    prompt = call(turn_with(memory, A, C))
    last = to_messages(prompt, model)[-1]
    assert last.type == "human"
    assert "do not call: b" in last.text
    if not model.startswith("langchain:"):
        assert '"name": "c"' not in json.dumps(body(prompt, model))


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_gateway_that_knows_no_change_is_told_in_words(memory: Memory, model: str) -> None:
    say(turn_with(memory, A, B))
    prompt = call(turn_with(memory, A, C))
    chat = connect(model, api_key="k", base_url="http://127.0.0.1:9", tool_changes=False)
    sent = json.dumps(chat.body(to_messages(prompt, model), tools=to_tools(prompt)))
    assert "do not call: b" in sent
    assert not [word for word in ("additional_tools", "tool_addition", '"c"') if word in sent]


def test_a_change_never_parts_a_call_from_its_result(memory: Memory) -> None:
    say(turn_with(memory, A))
    turn = turn_with(memory, A)
    asked = {"type": "call", "id": "t1", "name": "a", "arguments": "{}"}
    turn.add("assistant", [asked])
    turn.recall(Core((A, B), TEXT))  # the turn was resumed by a process that has more tools
    result = {"type": "result", "id": "t1", "name": "a", "text": "done", "error": False}
    turn.add("tool", [result])
    prompt = turn.prompt(CLAUDE, tail="it is late")
    roles = [(m["role"], m["content"][0]["type"]) for m in body(prompt, CLAUDE)["messages"][-3:]]
    assert roles == [
        ("assistant", "tool_use"),
        ("user", "tool_result"),
        ("system", "tool_addition"),
    ]
    turn.finish()


def test_the_next_epoch_has_it_all_and_repeats_nothing(memory: Memory) -> None:
    say(turn_with(memory, A, B))
    turn = turn_with(memory, A, C)
    turn.begin_epoch(Core((A, C), TEXT), "request")
    prompt = call(turn)
    assert prompt.tools == (A, C)
    assert "system" not in [message["role"] for message in body(prompt, CLAUDE)["messages"]]
    assert "tool_choice" not in body(prompt, GPT)
    answer(turn)
    memory.verify()


def test_a_prompt_without_tools_waits_for_the_next_epoch(memory: Memory) -> None:
    say(turn_with(memory))
    turn = turn_with(memory, A)
    assert [entry.kind for entry in call(turn).entries] == ["user", "assistant", "user"]
    answer(turn)


def test_a_narrow_view_keeps_every_change(memory: Memory) -> None:
    say(turn_with(memory, A))
    say(turn_with(memory, A, B))
    for _ in range(4):
        say(turn_with(memory, A, B))
    turn = turn_with(memory, A, B)
    prompt = turn.prompt(CLAUDE, scope=View(history_turns=1))
    assert ToolView.of(prompt.tools, prompt.entries).offered.keys() == {"a", "b"}
    turn.finish()


def test_a_change_says_what_it_is() -> None:
    block = Change((A,), ("b",)).block()
    assert block["text"] == "tools: a was added, b was removed"
    assert Change((A,)).notice == ""
