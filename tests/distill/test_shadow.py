import threading

import pytest

from agentmesh.distill.shadow import Shadow, Shadowed
from agentmesh.distill.student import Guess
from agentmesh.errors import ConfigError

ANSWER = {"role": "assistant", "content": "Hello"}


class Parrot:
    kind = "classifier"

    def answer(self, messages, tools=()):
        text = messages[-1]["content"]
        if text == "break":
            raise RuntimeError("broken")
        return Guess(None if text == "odd" else {"role": "assistant", "content": text}, 0.9)

    def save(self, path):
        path.write_text("parrot")


def said(text):
    return [{"role": "user", "content": text}]


def test_a_shadow_counts_what_the_student_had_done():
    with Shadow(Parrot()) as shadow:
        for text in ("hello!", "bye", "odd", "break"):
            assert shadow.offer(said(text), [], ANSWER)
        found = shadow.close()
    assert found == Shadowed(seen=4, answered=2, agreed=1, failed=1)
    assert found.agreement == 0.5
    assert Shadowed().agreement is None


def test_a_shadow_keeps_its_budget_and_never_makes_anybody_wait():
    gate, began = threading.Event(), threading.Event()

    class Slow(Parrot):
        def answer(self, messages, tools=()):
            began.set()
            gate.wait(20)
            return super().answer(messages, tools)

    with Shadow(Slow(), budget=4, waiting=2) as shadow:
        taken = [shadow.offer(said("hello"), [], ANSWER)]
        assert began.wait(20)
        taken += [shadow.offer(said("hello"), [], ANSWER) for _ in range(3)]
        assert taken == [True, True, True, False]
        gate.set()
    with Shadow(Parrot(), budget=1) as shadow:
        assert [shadow.offer(said("hello"), [], ANSWER) for _ in range(2)] == [True, False]
    assert shadow.result.skipped == 1


def test_a_shadow_without_a_budget_is_refused():
    with pytest.raises(ConfigError, match="budget=0"):
        Shadow(Parrot(), budget=0)
