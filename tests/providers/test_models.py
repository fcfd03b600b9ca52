"""Model strings, keys and settings: what is wrong is said at once, in one line."""

from __future__ import annotations

import copy
import doctest
import importlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

import agentmesh.providers
from agentmesh.economy.tokens import count
from agentmesh.errors import ConfigError
from agentmesh.providers import AnthropicModel, CompatibleModel, OpenAIModel, connect
from agentmesh.providers.ids import CallIds, safe_id

LOCAL = "http://127.0.0.1:8000/v1"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("string", "kind"),
    [
        ("anthropic:claude-opus-5-5", AnthropicModel),
        ("openai:gpt-6.1-sol", OpenAIModel),
        ("openai-compatible:Qwen/Qwen3-8B:awq", CompatibleModel),
    ],
)
def test_a_model_string_names_a_model(string: str, kind: type) -> None:
    model = connect(string, base_url=LOCAL, top_p=0.3)
    assert isinstance(model, kind)
    assert model.model_name == string
    assert model.name_ == string.partition(":")[2]
    assert model.extra == {"top_p": 0.3}
    assert connect(string, base_url=LOCAL).key() == "none"


@pytest.mark.parametrize(
    "string", ["", "claude-opus-5-5", "anthropic:", "anthropic: ", "gemini:x", 7]
)
def test_unknown_models_are_refused(string: Any) -> None:
    with pytest.raises(ConfigError, match="unknown model") as caught:
        connect(string, api_key="k")
    assert "VENDOR:NAME" in caught.value.hint


@pytest.mark.parametrize(
    ("string", "variable"),
    [("anthropic:claude-opus-5-5", "ANTHROPIC_API_KEY"), ("openai:gpt-4.1", "OPENAI_API_KEY")],
)
def test_a_missing_key_names_its_variable(
    string: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base_url in (None, "https://gateway.example/v1"):
        with pytest.raises(ConfigError, match="no API key") as caught:
            connect(string, base_url=base_url)
        assert variable in caught.value.hint
    assert connect(string, api_key="mine").key() == "mine"
    monkeypatch.setenv(variable, "theirs")
    assert connect(string).key() == "theirs"


@pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-ä", "sk-\x00"])
def test_a_key_that_no_header_carries_is_refused_unshown(key: str) -> None:
    with pytest.raises(ConfigError, match="no header can carry") as caught:
        connect("anthropic:claude-opus-5-5", api_key=key)
    assert key not in str(caught.value)
    assert connect("anthropic:claude-opus-5-5", api_key=" sk-a\n").key() == "sk-a"


def test_nobodys_key_is_sent_to_a_compatible_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openais")
    assert connect("openai-compatible:m", base_url="https://host.example/v1").key() == "none"
    with pytest.raises(ConfigError, match="needs a base_url"):
        connect("openai-compatible:m")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"temperature": "hot"}, "temperature"),
        ({"model_kwargs": {}, "messages": []}, "messages"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        connect("anthropic:claude-opus-5-5", api_key="k-secret", **fields)
    assert "k-secret" not in str(caught.value)


def test_settings_of_a_kind_reach_it() -> None:
    model = connect("openai-compatible:m", base_url=LOCAL, alternate=True, replay_reasoning=False)
    assert isinstance(model, CompatibleModel)
    assert (model.alternate, model.replay_reasoning, model.extra) == (True, False, {})


def test_tokens_are_counted_by_the_one_rule() -> None:
    model = connect("anthropic:claude-opus-5-5", base_url=LOCAL)
    assert model.get_num_tokens("x" * 9) == count("x" * 9)
    assert model.get_num_tokens_from_messages([HumanMessage("x" * 90)]) >= count("x" * 90)


@pytest.mark.parametrize(
    "name", ["anthropic", "blocks", "chat", "compatible", "ids", "loopback", "openai"]
)
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(f"agentmesh.providers.{name}")
    known = {"AIMessage": AIMessage, "HumanMessage": HumanMessage, "connect": connect}
    result = doctest.testmod(module, extraglobs=known)
    assert result.attempted
    assert not result.failed


def test_models_can_be_copied() -> None:
    model = connect("anthropic:claude-opus-5-5", base_url=LOCAL)
    assert copy.deepcopy(model) == model


def test_the_surface_is_whole_and_lazy() -> None:
    names = agentmesh.providers.__all__
    assert names == sorted(names, key=lambda n: (not n[0].isupper(), n))
    assert all(getattr(agentmesh.providers, name) for name in names)
    with pytest.raises(AttributeError, match="nothing_here"):
        agentmesh.providers.nothing_here  # noqa: B018 - the access is the test
    code = (
        "import sys, agentmesh.providers as p\n"
        "assert 'langchain_core' not in sys.modules\n"
        "p.connect('anthropic:x', base_url='http://127.0.0.1:1').body([])\n"
        "heavy = {'anthropic', 'openai', 'langgraph'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


odd = st.sampled_from(["a", "a #1", "1 a", "", " "]) | st.text(max_size=80)


@settings(deadline=None)
@given(st.lists(odd))
def test_ids_are_valid_stable_and_unique(names: list[str]) -> None:
    one, two = CallIds(), CallIds()
    calls = [one.call(name) for name in names]
    assert calls == [two.call(name) for name in names]
    assert [one.result(name) for name in names] == [two.result(name) for name in names]
    assert len(set(calls)) == len(calls)
    assert all(safe_id(call) == call for call in calls)
    fresh = CallIds()
    assert [(fresh.call(n), fresh.result(n)) for n in names] == [(c, c) for c in calls]
    assert CallIds().result("nobody called") == safe_id("nobody called")
