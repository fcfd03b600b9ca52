import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import (
    CheckContext,
    Draft,
    DraftCall,
    PastCall,
    ToolFacts,
    check_tools,
    default_checks,
    only,
    past_calls,
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
        Draft("Nobody says why it ended.", (), "unknown"),
    ],
)
def test_lets_a_sound_draft_pass(draft):
    assert failure(draft) is None


@pytest.mark.parametrize(
    ("draft", "check", "reason"),
    [
        (Draft("", call(arguments='{"order_'), "length"), "stop", "token limit"),
        (Draft("A long answer that was", (), "length"), "stop", "token limit (the tier's max"),
        (Draft("", (), "length"), "stop", "cut the answer"),
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


DESK = {
    "order": ToolFacts(SCHEMA),
    "refund": ToolFacts(SCHEMA, "external"),
    "note": ToolFacts({"properties": {"text": {"enum": ["VIP-2024X"]}}}, "local"),
}


def judged(draft, **given):
    return run_checks(default_checks(), draft, CheckContext(tools=DESK, **given))


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ('{"order_id": "#W2378156"}', "it is order w2378156"),
        ('{"order_id": "5551232002"}', "call me: (555) 123-2002"),
        ('{"order_id": "ann_lee_42"}', '{"user": {"id": "ann_lee_42"}}'),
        ('{"order_id": "2026-05-12"}', "next Tuesday"),
        ('{"order_id": "all of 2026"}', ""),
        ('{"order_id": "x", "count": 30}', "a month"),
        ('{"order_id": "report2.csv"}', "write a report"),
    ],
)
@pytest.mark.parametrize("tool", ["order", "refund"])
def test_values_that_were_seen_computed_or_worded_pass(tool, arguments, seen):
    assert judged(Draft("", call(tool, arguments), "tools"), seen=seen) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"order_id": "#W2378157"}',
        '{"order_id": "x", "to": {"mails": ["eve@elsewhere.org"]}}',
        '{"order_id": "x", "count": 4412345}',
    ],
)
def test_a_copied_value_must_have_been_seen(arguments):
    draft = Draft("", call("refund", arguments), "tools")
    found = judged(draft, seen="my order is #W2378156, I am ann@shop.org")
    assert (found.check, "nothing that was said" in found.reason) == ("traceable", True)
    assert judged(draft, seen="", top=True).check == "traceable"
    reading = Draft("", call("order", arguments), "tools")
    assert judged(reading).check == "traceable"
    assert judged(reading, top=True) is None


def test_what_a_tool_itself_offers_was_seen():
    assert judged(Draft("", call("note", '{"text": "VIP-2024X"}'), "tools")) is None


def test_counts_the_calls_of_a_draft():
    many = tuple(DraftCall(str(i), "order", f'{{"order_id": "{i}"}}') for i in range(17))
    assert judged(Draft("", many, "tools")).check == "call_count"
    twice = (*call("refund"), DraftCall("c2", "refund", '{ "order_id": "W1" }'))
    assert "twice" in judged(Draft("", twice, "tools"), seen="W1").reason
    assert judged(Draft("", (*call("order"), *call("order")), "tools"), seen="W1") is None


@pytest.mark.parametrize(
    ("tool", "past", "passes"),
    [
        ("order", [("order", "a")], True),
        ("order", [("order", "a"), ("order", "a")], False),
        ("order", [("order", "a"), ("order", "b")], True),
        ("order", [("order", "a"), ("refund", "done"), ("order", "a")], True),
        ("note", [("note", "ok"), ("note", "ok")], False),
        ("refund", [("refund", "done")], False),
        ("refund", [("refund", "timeout")], True),
        ("refund", [("refund", "done"), ("note", "undone")], True),
    ],
)
def test_the_same_call_again_needs_something_new(tool, past, passes):
    made = [PastCall(n, '{"order_id":"W1"}', said, error=said == "timeout") for n, said in past]
    found = judged(Draft("", call(tool), "tools"), seen="W1", past=made)
    assert (found is None) == passes
    assert passes or found.check == "no_loop"
    at_the_top = judged(Draft("", call(tool), "tools"), seen="W1", past=made, top=True)
    assert (at_the_top is None) == (passes or tool == "order")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("I'm sorry, but I can't assist with that.", False),
        ("As an AI language model, I have no opinion.", False),
        ("I am unable to help you with this request.", False),
        ("A refund is not possible after 30 days, but I can exchange it.", True),
        ("I can't find the order W1. Could you check the number?", True),
    ],
)
def test_tells_a_refusal_from_bad_news(text, passes):
    assert (judged(Draft(text)) is None) == passes
    assert judged(Draft(text), top=True) is None


def test_reads_the_turns_calls_from_its_log():
    blocks = [
        {"type": "call", "id": "a", "name": "order", "arguments": "{}"},
        {"type": "call", "id": "b", "name": "refund", "arguments": "{}"},
        {"type": "result", "id": "b", "name": "refund", "text": "no", "error": True},
        {"type": "text", "text": "hm"},
    ]
    assert past_calls(blocks) == (PastCall("refund", "{}", "no", error=True),)


def test_holds_a_check_to_some_drafts():
    def never(draft, context):
        return "no"

    strict = only(never, "external", "note")
    assert judged(Draft("hello")) is None
    assert run_checks([strict], Draft("hello"), CheckContext(tools=DESK)) is None
    assert strict(Draft("", call("order")), CheckContext(tools=DESK)) is None
    assert run_checks([strict], Draft("", call()), CheckContext(tools=DESK)).check == "never"
    assert strict(Draft("", call("note")), CheckContext(tools=DESK)) == "no"
    assert only(never, "text")(Draft("hello"), CheckContext(tools=DESK)) == "no"
    check_tools([strict, never], DESK)
    with pytest.raises(ConfigError, match="'refnud', which is no tool"):
        check_tools([only(never, "refnud")], DESK)
    with pytest.raises(ConfigError, match="only\\(\\) of nothing"):
        only(never)
