import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import (
    CheckContext,
    Draft,
    DraftCall,
    ToolFacts,
    default_checks,
    run_checks,
)

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["order_id"],
}
CONTEXT = CheckContext(
    tools={"refund": ToolFacts(SCHEMA, "external"), "loose": ToolFacts(SCHEMA, strict=False)},
    tier="student",
)


def failure(draft, checks=()):
    return run_checks((*default_checks(), *checks), draft, CONTEXT)


def call(name="refund", arguments='{"order_id": "W1"}'):
    return (DraftCall("c1", name, arguments),)


@pytest.mark.parametrize(
    "draft",
    [
        Draft("It is on its way."),
        Draft("", call(), "tools"),
        Draft("", call("loose", '{"anything": 1}'), "tools"),
        Draft("A long answer that was cut", (), "length"),
    ],
)
def test_lets_a_sound_draft_pass(draft):
    assert failure(draft) is None


@pytest.mark.parametrize(
    ("draft", "check", "reason"),
    [
        (Draft("", call(arguments='{"order_'), "length"), "stop", "token limit"),
        (Draft("I can't", (), "refusal"), "stop", "refused"),
        (Draft(" \n"), "not_empty", "empty"),
        (Draft("", call("teleport")), "known_tool", "'teleport'"),
        (Draft("", call(arguments="{}")), "arguments", "order_id"),
        (Draft("", call(arguments='{"order_id": 5}')), "arguments", "order_id: 5 is not"),
        (Draft("", call(arguments="[1]")), "arguments", "list, not an object"),
        (Draft("", call(arguments="{oops")), "arguments", "not JSON"),
    ],
)
def test_refuses_a_draft_and_says_why(draft, check, reason):
    found = failure(draft)
    assert found is not None
    assert (found.check, found.tier) == (check, "student")
    assert reason in found.reason


def test_takes_a_plain_function_and_an_object_with_a_name():
    def no_promises(draft, context):
        return "promises too much" if "guaranteed" in draft.text else None

    class Polite:
        name = "polite"

        def __call__(self, draft, context):
            return "rude" if "idiot" in draft.text else None

    checks = (no_promises, Polite())
    assert failure(Draft("guaranteed!"), checks).check == "no_promises"
    assert failure(Draft("you idiot"), checks).check == "polite"
    assert failure(Draft("fine"), checks) is None


def test_names_a_tool_schema_that_is_none():
    context = CheckContext(tools={"bad": ToolFacts({"type": "strnig"})})
    with pytest.raises(ConfigError, match="not a JSON schema"):
        run_checks(default_checks(), Draft("", call("bad", "{}")), context)
