import json
import random

import pytest

from agentmesh.distill import archive
from agentmesh.distill.evaluate import agree
from agentmesh.distill.local import LocalStudent, labelled
from agentmesh.distill.scene import Source, form, scene_of
from agentmesh.distill.serve import StudentModel, chat_messages
from agentmesh.distill.shapes import build, make, take
from agentmesh.distill.student import Student
from agentmesh.distill.traces import Trace
from agentmesh.errors import ConfigError, CorruptError
from agentmesh.providers import stop_of, usage_of
from agentmesh.tiers import Tier

ASKS = (
    "where is my order {}", "can you tell me the status of {}", "has {} been shipped yet",
    "i am waiting for {}, where is it", "track {} for me please", "any news about order {}",
)  # fmt: skip
HOURS = (
    "when do you open", "what are your opening hours", "are you open on sunday",
    "until when is the shop open today", "opening times please", "do you close at noon",
)  # fmt: skip
ODD = ("write me a poem about {}", "why is the sky over {} blue", "translate {} into latin")
TOOLS = [{"type": "function", "function": {"name": "order_status", "parameters": {}}}]


def result(rng, order):
    state = rng.choice(["shipped", "delivered", "delayed"])
    return {"order": order, "state": state, "days": rng.randint(2, 9), "price": {"usd": 49.9}}


def teach(n, seed=0):
    """A shop's teacher: it looks an order up, tells its state, and knows the opening hours."""
    rng = random.Random(seed)
    traces = []

    def add(i, prompt, answer):
        traces.append(
            Trace(f"{i}", f"c{i}", "", 1, 1, tuple(prompt), tuple(TOOLS), answer, "rules")
        )

    for i in range(n):
        order = f"#W{rng.randrange(10**6, 10**7)}"
        what = rng.random()
        said = rng.choice(ASKS if what < 0.6 else HOURS if what < 0.9 else ODD)
        prompt = [
            {"role": "system", "content": "You are the desk.\nlanguage: English"},
            {"role": "user", "content": said.format(order)},
        ]
        if what >= 0.9:
            add(i, prompt, {"role": "assistant", "content": f"Well, {rng.random()}."})
        elif what >= 0.6:
            add(i, prompt, {"role": "assistant", "content": "We are open from 9 to 18."})
        else:
            arguments = json.dumps({"order": order, "detail": {"full": True}})
            function = {"name": "order_status", "arguments": arguments}
            call = {"id": "c1", "type": "function", "function": function}
            answer = {"role": "assistant", "content": None, "tool_calls": [call]}
            add(i, prompt, answer)
            told = result(rng, order)
            seen = [*prompt, answer]
            seen.append({"role": "tool", "tool_call_id": "c1", "content": json.dumps(told)})
            text = f"Order {order} is {told['state']}; allow {told['days']} days {{0}}."
            add(i, seen, {"role": "assistant", "content": text})
    return traces


@pytest.fixture(scope="module")
def student():
    return LocalStudent.fit(teach(160))


def test_a_student_does_what_its_teacher_does_on_requests_it_never_saw(student):
    unseen = teach(60, seed=9)
    guesses = [student.answer(t.prompt, t.tools) for t in unseen]
    made = [(t, g.answer) for t, g in zip(unseen, guesses, strict=True) if g.answer]
    assert len(made) / len(unseen) > 0.75
    assert sum(agree(t.answer, answer) for t, answer in made) / len(made) > 0.95
    odd = [g for t, g in zip(unseen, guesses, strict=True) if "Well" in str(t.answer)]
    assert odd
    assert all(g.answer is None and g.reason for g in odd)
    assert isinstance(student, Student)
    assert student.facts["agreement"] >= 0.95


def test_a_saved_student_is_the_same_student(student, tmp_path):
    path = tmp_path / "desk.skops"
    student.save(path)
    again = LocalStudent.load(path)
    for trace in teach(10, seed=5):
        assert again.answer(trace.prompt) == student.answer(trace.prompt)
    assert again.facts == student.facts
    assert [p.name for p in tmp_path.iterdir()] == ["desk.skops"]


def test_a_file_that_is_no_student_is_refused(student, tmp_path):
    path = tmp_path / "desk.skops"
    with pytest.raises(ConfigError, match="cannot be read"):
        LocalStudent.load(path)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(CorruptError, match="not a student"):
        LocalStudent.load(path)
    archive.save(path, {"kind": "wizard"})
    with pytest.raises(ConfigError, match="'wizard'"):
        LocalStudent.load(path)
    archive.save(path, {"kind": "classifier", "threshold": 1.0})
    with pytest.raises(CorruptError, match="lacks"):
        LocalStudent.load(path)
    import skops.io

    skops.io.dump({"format": "agentmesh-student", "x": random.Random(0)}, path)
    with pytest.raises(CorruptError, match="Random"):
        LocalStudent.load(path)


def test_a_tool_that_is_gone_is_not_called(student):
    asked = [{"role": "user", "content": "where is my order #W1234567"}]
    assert student.answer(asked, TOOLS).answer["tool_calls"]
    other = [{"type": "function", "function": {"name": "refund"}}]
    guess = student.answer(asked, other)
    assert guess.answer is None
    assert "no tool 'order_status'" in guess.reason


def test_what_nothing_can_be_learned_from_is_refused():
    with pytest.raises(ConfigError, match="no positive trace"):
        LocalStudent.fit([])
    with pytest.raises(ConfigError, match="one class only"):
        LocalStudent.fit(labelled(["a", "b", "c"], ["x", "x", "x"]))
    with pytest.raises(ConfigError, match="occurs 3 times"):
        LocalStudent.fit(labelled(["a", "b"], ["x", "y"]))
    with pytest.raises(ConfigError, match="agreement=2"):
        LocalStudent.fit(labelled(["a"], ["x"]), agreement=2)


def test_a_few_examples_of_each_answer_are_enough_to_train_on():
    asked = ["where is my parcel", "is my parcel late", "track my parcel", "find my parcel"]
    thanked = ["thank you", "many thanks", "thanks a lot", "thank you all"]
    student = LocalStudent.fit(labelled(asked + thanked, ["p"] * 4 + ["t"] * 4), agreement=0.5)
    assert student.answer([{"role": "user", "content": "my parcel"}]).answer["content"] == "p"


def test_an_answer_is_taken_apart_and_put_together_again():
    messages = next(t.prompt for t in teach(9) if t.prompt[-1]["role"] == "tool")
    scene = scene_of(messages)
    assert Source("fact", "language") in scene.values
    assert scene.done == ("order_status",)
    assert "did_order_status" in scene.text()
    answer = {
        "role": "assistant",
        "content": f"It is {scene.values[Source('result', 'order_status/state')]}, {{0}} {{x}}.",
    }
    taken = take(answer, scene)
    assert make(taken.shape, [[["result", "order_status/state"]]], scene) == answer
    assert make(taken.shape, [[["result", "nowhere"]]], scene) is None
    assert make(taken.shape, [[["fixed", '"lost"']]], scene)["content"] == "It is lost, {0} {x}."


@pytest.mark.parametrize(
    ("filled", "value"),
    [
        ({"a": 1, "b/c": 2}, {"a": 1, "b": {"c": 2}}),
        ({"a/0": 1, "a/1/x": 2}, {"a": [1, {"x": 2}]}),
        ({"": {}}, {}),
    ],
)
def test_arguments_are_built_from_their_leaves(filled, value):
    assert build(filled) == value


def test_tokens_of_one_form_are_alike():
    assert form("#W2378156") == form("#A1") == "#A9"
    assert form("mia@shop.com") == "a@a.a"


def test_a_student_is_a_tier(student):
    tier = Tier("student", StudentModel(student=student, name="desk"))
    assert tier.model_name == "student:desk"
    bound = tier.chat.bind_tools(TOOLS)
    first = bound.invoke([("system", "You are the desk."), ("user", "where is my order #W1234567")])
    assert first.tool_calls[0]["args"] == {"order": "#W1234567", "detail": {"full": True}}
    assert stop_of(first) == "tools"
    assert usage_of(first).output == 0
    abstained = bound.invoke("translate rosebud into latin")
    assert (abstained.content, stop_of(abstained)) == ("", "refusal")
    assert abstained.response_metadata["abstained"]


def test_what_a_served_student_reads_is_what_it_was_trained_on(desk):
    from agentmesh.distill.log import read_traces
    from agentmesh.providers import to_messages

    m = desk.memory()
    desk.ask(m, "s1", "Where is #W1?", [desk.call('{"order":  "#W1"}'), desk.text("Shipped.")])
    calls = m.ledger.calls(session="s1")
    for trace, call in zip(read_traces(m), calls, strict=True):
        for model in ("student:desk", "foreign:desk"):
            shown = chat_messages(to_messages(m.rebuild("s1", call), model))
            assert scene_of(shown) == scene_of(trace.prompt)


def test_an_amount_that_was_computed_is_not_imitated():
    def call(amount):
        function = {"name": "refund", "arguments": json.dumps({"amount": amount})}
        return {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}

    scene = scene_of([{"role": "user", "content": "refund W1, please"}])
    assert take(call(49.9), scene).shape == "computed"
    assert take(call(2), scene).shape != "computed"
