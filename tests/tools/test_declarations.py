from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import InjectedToolArg, StructuredTool
from langchain_core.tools import tool as core_tool

from agentmesh import canonical
from agentmesh.errors import ConfigError
from agentmesh.tools import (
    CallContext,
    Declaration,
    bind_context,
    catalogue,
    context,
    declaration,
    declare,
    idempotency_key,
    run_call,
    schema_tool,
    spec,
    tool,
)


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


def test_a_tool_is_a_structured_tool_that_works_alone() -> None:
    made = tool(side_effect="local", idempotent=True)(add)
    assert isinstance(made, StructuredTool)
    assert made.invoke({"a": 2, "b": 3}) == 5
    assert declaration(made) == Declaration(side_effect="local", idempotent=True)


def test_a_spec_holds_descriptions_and_leaves_injected_arguments_out() -> None:
    @tool
    def lookup(order: str, secret: Annotated[str, InjectedToolArg]) -> str:
        """Look an order up.

        Args:
            order: The order's number.
            secret: Not the model's.
        """
        return order + secret

    shown = spec(lookup)
    schema = canonical.loads(shown.parameters)
    assert list(schema["properties"]) == ["order"]
    assert schema["properties"]["order"]["description"] == "The order's number."
    assert shown.description == "Look an order up."
    assert shown.parameters == canonical.dumps(schema)


def test_declare_keeps_the_original_as_it_was() -> None:
    @core_tool
    def plain(x: int) -> int:
        """Return x."""
        return x

    changed = declare(plain, side_effect="external", approval="always")
    assert declaration(plain) == Declaration()
    assert declaration(changed).approval == "always"
    assert declaration(declare(changed, final=True)).approval == "always"
    assert changed.invoke({"x": 3}) == 3


@pytest.mark.parametrize(
    "terms",
    [
        {"side_effect": "some"},
        {"approval": "sometimes"},
        {"trust": "maybe"},
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"max_chars": 10},
        {"tiers": "student"},
        {"accepts": "anything"},
        {"sends": "secret"},
        {"no_such_term": 1},
    ],
)
def test_a_wrong_declaration_is_a_config_error_with_a_hint(terms: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        tool(**terms)(add)  # type: ignore[call-overload]
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_approval_by_condition_asks_when_the_condition_cannot_judge() -> None:
    stated = Declaration(approval=lambda args: args["cents"] > 100)
    assert stated.needs_approval({"cents": 101})
    assert not stated.needs_approval({"cents": 100})
    assert stated.needs_approval({})
    assert stated.needs_approval({"cents": "many"})


def _undocumented(x: int) -> int:
    return x


def test_a_function_without_a_docstring_is_refused() -> None:
    with pytest.raises(ConfigError, match="_undocumented"):
        tool(_undocumented)
    with pytest.raises(ConfigError, match="_undocumented"):
        catalogue([_undocumented])
    assert tool(description="Return x.")(_undocumented).description == "Return x."


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'add'"):
        catalogue([add, tool(add)])


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, "a.b"])
def test_a_name_that_a_vendor_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        tool(name=name)(add)


class _NoSchema:
    pass


def test_arguments_without_a_json_schema_are_refused() -> None:
    def strange(x: _NoSchema) -> str:
        """Take something strange."""
        return str(x)

    with pytest.raises(ConfigError):
        catalogue([strange])


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"name": 3},
        "no schema",
        {"name": "f", "parameters": {"type": "array"}},
        {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "no type"}}}},
        {"name": "f", "parameters": {"type": "object", "required": "x"}},
        {"name": "f", "parameters": {"type": "object", "properties": {"x": {"default": {1, 2}}}}},
        {"name": "f", "parameters": 7},
    ],
)
def test_a_schema_that_is_none_is_refused(schema: object) -> None:
    with pytest.raises(ConfigError):
        schema_tool(schema, str)  # type: ignore[arg-type]


def test_a_schema_tool_is_given_checked_arguments() -> None:
    schema = {
        "type": "function",
        "function": {
            "name": "double",
            "description": "Double.",
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
            },
        },
    }
    made = schema_tool(schema, lambda args: str(args["x"] * 2))
    assert run_call(made, "c", {"x": 4}).text == "8"
    refused = run_call(made, "c", {"x": "four"})
    assert refused.error
    assert "$.x" in refused.text
    loose = schema_tool(schema, lambda args: str(args["x"] * 2), strict=False)
    assert run_call(loose, "c", {"x": "four"}).text == "fourfour"


def test_a_catalogue_is_sorted_and_answers_by_name() -> None:
    def zebra() -> str:
        """Be a zebra."""
        return "z"

    tools = catalogue([zebra, add])
    assert [item.name for item in tools] == ["add", "zebra"]
    assert [item.name for item in tools.specs] == ["add", "zebra"]
    assert tools.get("add") is not None
    assert tools.get("ant") is None
    assert "zebra" in tools
    assert len(tools) == 2
    assert tools.schemas["add"]["required"] == ["a"]
    assert catalogue([add, zebra]).specs == tools.specs


def test_a_changed_definition_does_not_match_its_pin() -> None:
    pins = catalogue([add]).pins
    assert catalogue([add]).changed(pins) == ()
    assert catalogue([tool(description="Add, and send it to me.")(add)]).changed(pins) == (
        "add",
    ) or (catalogue([tool(name="add", description="Other.")(add)]).changed(pins) == ("add",))
    assert catalogue([add]).changed({}) == ("add",)


_SPEC_PROGRAM = """
from typing import Literal
from agentmesh.tools import catalogue, tool
@tool
def f(kind: Literal["a", "b"], options: dict[str, int] | None = None, tags: set[str] = set()) -> str:
    "Do."
    return ""
print(catalogue([f]).specs)
"""


def test_a_spec_is_the_same_bytes_under_every_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _SPEC_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(outputs) == 1


def test_a_context_reaches_a_tool_and_ends_with_the_block() -> None:
    @tool
    def who() -> str:
        """Say who asks."""
        return f"{context().user}/{context().session}"

    with bind_context(CallContext(user="u1", session="s1")):
        assert run_call(who, "c", {}).text == "u1/s1"
        with bind_context(session="s2"):
            assert run_call(who, "c", {}).text == "u1/s2"
    assert run_call(who, "c", {}, CallContext(user="u3")).text == "u3/"
    assert context() == CallContext()


_ARGS = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(), st.none()))


@given(_ARGS, st.integers(0, 5), st.integers(0, 5))
def test_a_key_is_equal_for_equal_calls_only(args: dict[str, object], turn: int, step: int) -> None:
    call = CallContext("t", "u", "s", turn, step)
    key = idempotency_key(call, "f", args)
    assert key == idempotency_key(call, "f", dict(reversed(args.items())))
    assert key != idempotency_key(call, "g", args)
    assert key != idempotency_key(call, "f", args, nth=1)
    assert key != idempotency_key(CallContext("t", "u", "s", turn, step + 1), "f", args)
    assert key != idempotency_key(CallContext("t2", "u", "s", turn, step), "f", args)
