import random

import pytest

from agentmesh.distill.evaluate import Run, agree, compare, run_of
from agentmesh.distill.report import markdown, page, table
from agentmesh.errors import ConfigError


def runs(successes, n=40, steps=20.0, cost=None, broken=0, first=0):
    return [
        Run(
            f"t{first + i}",
            float(i < successes),
            int(steps + i % 5),
            ended=i >= broken,
            cost=cost,
            note="" if i >= broken else "ended by <max|steps>",
        )
        for i in range(n)
    ]


def test_a_better_candidate_is_promoted_and_what_got_worse_is_flagged():
    found = compare(runs(18), runs(32, steps=35, broken=6))
    assert found.promoted
    assert "reward is higher" in found.reason
    assert [flag.split(":")[0] for flag in found.flags] == [
        "its conversations are longer",
        "more of its conversations end abnormally",
    ]
    assert not compare(runs(18), runs(32, steps=35), blocking=True).promoted
    assert found.worst[0][1].note


def test_equal_rewards_promote_only_what_is_surely_cheaper():
    same = compare(runs(30), runs(30))
    assert (same.promoted, same.paired) == (False, True)
    assert "costs are not known" in same.reason
    assert "not surely cheaper" in compare(runs(30, cost=0.02), runs(30, cost=0.02)).reason
    cheaper = compare(runs(30, cost=0.02), runs(30, cost=0.004))
    assert cheaper.promoted
    assert "80% less" in cheaper.reason
    assert "more than the margin" in compare(runs(30, cost=0.02), runs(24, cost=0.001)).reason
    dearer = compare(runs(30, cost=0.02), runs(30, cost=0.05))
    assert any("costs more" in flag for flag in dearer.flags)


def test_a_candidate_that_is_no_better_is_seldom_promoted():
    rng = random.Random(0)
    pool = [
        Run(f"t{i}", float(rng.random() < 0.6), 20, cost=rng.uniform(0.01, 0.1)) for i in range(60)
    ]

    def draw():
        return [rng.choice(pool) for _ in range(40)]

    promoted = sum(compare(draw(), draw()).promoted for _ in range(200))
    assert promoted <= 10


def test_other_tasks_are_compared_as_two_samples():
    found = compare(runs(18), runs(36, first=100))
    assert (found.paired, found.promoted, found.worst) == (False, True, ())


def test_a_person_can_read_the_report():
    found = compare(runs(18), runs(32, steps=35, broken=6))
    text, web = markdown(found), page(found)
    assert "## Worst cases" in text
    assert "&lt;max&#124;steps&gt;" in text
    assert "<max" not in web
    assert web.count("<svg") == len(found.measures)
    assert table(found).row_count == len(found.measures)
    told = found.to_json()
    assert told["measures"][0]["difference"].keys() == {"value", "low", "high"}


def test_recorded_conversations_become_runs():
    row = {
        "id": "a",
        "reward": 1.0,
        "termination": "max_steps",
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", "cost_usd": 0.5},
        ],
    }
    assert run_of(row) == Run("a", 1.0, 2, False, 0.5, note="ended by max_steps")
    with pytest.raises(ConfigError, match="no reward"):
        run_of({"id": "b", "messages": []})
    with pytest.raises(ConfigError, match="say nothing"):
        compare(runs(1, n=1), runs(5))
    with pytest.raises(ConfigError, match="alpha=2"):
        compare(runs(5), runs(5), alpha=2)


def call(arguments, name="find"):
    return {"content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (call('{"a": 1, "b": 2}'), call('{"b":2,"a":1}'), True),
        (call('{"a": 1}'), call('{"a": 2}'), False),
        (call("{}"), call("{}", "lose"), False),
        (call("{"), call("{"), True),
        (call("{}"), {"content": "find"}, False),
        ({"content": "Hello!"}, {"content": "hello"}, True),
        ({"content": "Hello"}, {"content": "Bye"}, False),
    ],
)
def test_answers_agree_when_they_do_the_same(one, other, same):
    assert agree(one, other) is same
    assert agree({"content": "a"}, {"content": "b"}, same_text=lambda a, b: True)
