from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentmesh.tools import CallContext, Result, arun_once, keyed, run_call, run_once, tool
from agentmesh.tools.journal import State


class Notes:
    """A journal in a dict: the smallest thing that keeps the Protocol."""

    def __init__(self) -> None:
        self.rows: dict[str, Result | None] = {}
        self.said: dict[str, Result] = {}

    def intent(self, key: str, tool: str, args: str) -> State | Result:
        if key in self.rows:
            return self.rows[key] or "unknown"
        self.rows[key] = None
        return "new"

    def result(self, key: str, result: Result) -> None:
        self.rows[key] = result

    def reconcile(self, key: str) -> Result | None:
        return self.said.get(key)


class _Killed(BaseException):
    """Stands where a SIGKILL would end the process."""


def _once(tool_: Any, notes: Notes, run: Callable[[], Result] | None = None) -> Result:
    context = keyed(tool_, {"n": 1}, CallContext(session="s", turn=1))
    return run_once(
        tool_, {"n": 1}, context, notes, run or (lambda: run_call(tool_, "c", {"n": 1}, context))
    )


def _killed() -> Result:
    raise _Killed


def _payment(paid: list[int], **terms: Any) -> Any:
    @tool(name="pay", side_effect="external", **terms)
    def pay(n: int) -> str:
        """Pay."""
        paid.append(n)
        return f"paid {len(paid)}"

    return pay


def test_a_completed_call_is_not_repeated() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid)
    assert _once(pay, notes) == _once(pay, notes) == Result("paid 1")
    assert paid == [1]


def test_another_step_pays_again() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid)
    for step in (1, 2):
        context = keyed(pay, {"n": 1}, CallContext(session="s", step=step))
        run_once(pay, {"n": 1}, context, notes, lambda c=context: run_call(pay, "c", {"n": 1}, c))
    assert paid == [1, 1]


def test_an_unknown_outcome_is_reported_and_never_repeated() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid)
    with pytest.raises(_Killed):
        _once(pay, notes, _killed)
    for _ in range(2):
        result = _once(pay, notes)
        assert result.error
        assert "unknown" in result.text
    assert paid == []


def test_an_idempotent_tool_is_run_again() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid, idempotent=True)
    with pytest.raises(_Killed):
        _once(pay, notes, _killed)
    assert _once(pay, notes) == Result("paid 1")


@pytest.mark.parametrize(("answer", "paid_then"), [("paid already", []), (None, [1])])
def test_a_tool_that_can_be_asked_is_asked(answer: str | None, paid_then: list[int]) -> None:
    notes, paid, asked = Notes(), [], []

    def reconcile(key: str) -> str | None:
        asked.append(key)
        return answer

    pay = _payment(paid, reconcile=reconcile)
    with pytest.raises(_Killed):
        _once(pay, notes, _killed)
    result = _once(pay, notes)
    assert result.text == (answer or "paid 1")
    assert paid == paid_then
    assert asked == list(notes.rows)


def test_what_a_person_says_settles_an_unknown_call() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid)
    with pytest.raises(_Killed):
        _once(pay, notes, _killed)
    notes.said = {key: Result("it went through") for key in notes.rows}
    assert _once(pay, notes) == Result("it went through")
    notes.said = {}
    assert _once(pay, notes) == Result("it went through")


def test_the_asynchronous_form_is_the_same() -> None:
    notes, paid = Notes(), []
    pay = _payment(paid)
    context = keyed(pay, {"n": 1}, CallContext(session="s", turn=1))

    async def run() -> Result:
        return run_call(pay, "c", {"n": 1}, context)

    async def twice() -> list[Result]:
        return [await arun_once(pay, {"n": 1}, context, notes, run) for _ in range(2)]

    assert asyncio.run(twice()) == [Result("paid 1")] * 2
    assert paid == [1]
