from collections import Counter
from dataclasses import replace

import pytest

from agentmesh.distill.log import read_traces
from agentmesh.distill.selection import Policy, repeats, select, to_examples
from agentmesh.distill.traces import Outcome, Trace, conversation_traces
from agentmesh.errors import ConfigError, InputError

ASKED = {"role": "user", "content": "Where is #W1?"}


def trace(i=0, **changes):
    said = {"role": "assistant", "content": f"Answer {i}"}
    outcome = Outcome(**changes.pop("outcome", {}))
    return replace(
        Trace(f"t{i}", f"c{i}", "u1", 1, 1, (ASKED,), (), said, "anthropic:claude-opus-5-5"),
        outcome=outcome,
        **changes,
    )


def reason(one, policy=None, others=(), **more):
    rows = [one, *others]
    return next(iter(select(lambda: rows, policy, **more)))


@pytest.mark.parametrize(
    ("changes", "policy", "why"),
    [
        ({"tier": "student"}, {}, "tier student does not teach"),
        ({}, {"tiers": frozenset({"standard"})}, "tier flagship does not teach"),
        ({"clean": False}, {}, "a check refused it"),
        ({"outcome": {"status": "interrupted"}}, {}, "the turn ended as interrupted"),
        ({"outcome": {"status": ""}}, {}, "the turn ended as unfinished"),
        ({"outcome": {"errors": 1}}, {}, "a tool that it called failed"),
        ({"outcome": {"score": 0.2}}, {}, "feedback 0.2 is below 0.5"),
        ({"outcome": {"reward": 0.0}}, {}, "reward 0 is below 1"),
        ({}, {"needs_feedback": True}, "nobody said how it went"),
    ],
)
def test_a_call_that_is_not_worth_learning_from_is_left_out_with_the_reason(changes, policy, why):
    choice = reason(trace(**changes), Policy(**policy))
    assert (choice.kept, choice.reason) == (False, why)


def test_what_is_kept_says_why_too():
    assert reason(trace()).reason == "nothing was wrong with it"
    assert reason(trace(outcome={"escalated": True})).reason == "a cheaper tier had failed here"
    assert reason(trace(outcome={"score": 0.9})).reason == "it was told to be good"
    assert reason(trace(), known=lambda t: True).reason == "a cheaper tier does it already"
    assert reason(trace(), judge=lambda t: "rude").reason == "judge: rude"
    assert reason(trace(), judge=lambda t: None).kept


def test_turns_longer_than_usual_are_left_out():
    usual = [trace(i, outcome={"steps": 2}) for i in range(1, 9)]
    assert reason(trace(outcome={"steps": 3}), others=usual).kept
    assert reason(trace(outcome={"steps": 6}), others=usual).reason == "6 steps where 2 are usual"
    assert reason(trace(outcome={"steps": 6}), Policy(slack=4), usual).kept


def test_kinds_are_balanced_the_same_way_every_time():
    rows = [trace(i, kind="simple") for i in range(400)] + [trace(900, kind="complex")]
    kept = [c.trace.id for c in select(lambda: rows, Policy(per_action=50)) if c.kept]
    assert 30 <= len(kept) <= 70
    assert "t900" in kept
    again = [c.trace.id for c in select(lambda: rows[::-1], Policy(per_action=50)) if c.kept]
    assert sorted(again) == sorted(kept)


def test_a_call_repeated_within_its_turn_is_noticed(desk):
    m = desk.memory()
    desk.ask(m, "s1", "Where?", [desk.call(), desk.call(id="c2"), desk.text("Shipped.")])
    desk.ask(m, "s1", "And now?", [desk.call(id="c3"), desk.text("Still.")])
    assert [repeats(t) for t in read_traces(m)] == [False, True, False, False, False]


def test_failed_turns_of_a_good_conversation_are_shown_but_not_learned(desk):
    m = desk.memory()
    desk.ask(m, "s1", "One?", [desk.text("First.")])
    desk.ask(m, "s1", "Two?", [desk.call('{"order": "bad"}'), desk.text("Second.")])
    desk.ask(m, "s1", "Three?", [desk.text("Third.")])
    reasons = Counter()
    (example,) = to_examples(select(lambda: read_traces(m), Policy(slack=3)), reasons)
    learned = [example.messages[i].get("content") for i in example.trained]
    assert learned == ["First.", "Second.", "Third."]
    assert next(example.messages[i] for i in example.answers if i not in example.trained)[
        "tool_calls"
    ]
    assert reasons == {"nothing was wrong with it": 3, "a tool that it called failed": 1}


def test_every_answer_is_learned_under_the_prompt_it_was_given_to(desk):
    m = desk.memory()
    desk.ask(m, "s1", "One?", [desk.text("First.")])
    desk.ask(m, "s1", "Two?", [desk.text("Second.")], tail="It is noon.")
    desk.ask(m, "s1", "Three?", [desk.text("Third.")])
    desk.ask(m, "s2", "Four?", [desk.text("Fourth.")])
    examples = list(to_examples(select(lambda: read_traces(m))))
    learned = {e.messages[i]["content"]: e.messages[:i] for e in examples for i in e.trained}
    assert learned == {t.answer["content"]: t.prompt for t in read_traces(m)}
    assert len(examples) == 3


def test_recorded_conversations_become_traces():
    call = {"id": "c1", "function": {"name": "look", "arguments": '{"a": 1}'}}
    row = {
        "id": "x/1",
        "model": "gpt-4.1",
        "reward": 0.0,
        "termination": "max_steps",
        "messages": [
            {"role": "system", "content": "Policy."},
            {"role": "assistant", "content": "Hi!"},
            {"role": "user", "content": "Help"},
            {"role": "assistant", "content": None, "tool_calls": [call], "cost_usd": 0.002},
            {"role": "tool", "tool_call_id": "c1", "content": "Error: no"},
            {"role": "assistant", "content": "Sorry."},
        ],
    }
    first, second = conversation_traces(row)
    assert (first.action, first.cost, first.outcome.errors) == ("look", 2_000, 1)
    assert (second.asked, second.outcome.steps, second.outcome.status) == ("Help", 2, "interrupted")
    with pytest.raises(InputError, match="no messages"):
        conversation_traces({"messages": []})
    with pytest.raises(InputError, match="not a tool call"):
        conversation_traces({"messages": [{"role": "assistant", "tool_calls": [{}]}]})


def test_a_policy_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="slack=-1"):
        Policy(slack=-1)
    with pytest.raises(ConfigError, match="per_action=0"):
        Policy(per_action=0)
