"""What a tool itself asks a person, in the middle of a call, by LangGraph's `interrupt`.

The question and its answer are entries of the log, so that the turn waits without a process or a
checkpointer. Once it is answered the tool runs again from its start, under the same idempotency
key, and each `interrupt` that was answered returns the answer.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.tools import context

if TYPE_CHECKING:
    from agentmesh.memory import Turn
    from agentmesh.memory.sessions import Record
    from agentmesh.state import State

PAUSE, ANSWER = "pause", "answer"
"""The kinds of the records of a question and of its answer; prompts show neither."""

_SCRATCHPAD = "__pregel_scratchpad"
"""Where a run's configuration holds what `interrupt` looks at."""


def question(stop: GraphInterrupt) -> dict[str, Any]:
    """Return what a tool has asked as a record holds it."""
    asked = stop.args[0][0]
    try:
        value = json.loads(
            canonical.clean(json.dumps(asked.value, default=str, ensure_ascii=False))
        )
    except (TypeError, ValueError):
        value = canonical.clean(str(asked.value))
    return {"question": value, "schema": asked.response_schema}


def waiting(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Return the open questions of a turn by the key of the call that asks, oldest first."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.kind == PAUSE:
            body = canonical.loads(record.body)
            found[body["key"]] = body
        elif record.kind == ANSWER:
            found.pop(canonical.loads(record.body)["key"], None)
    return found


def answer(turn: Turn, state: State, config: RunnableConfig) -> bool:
    """Have the oldest open question of a turn answered; true if the run brought the answer.

    Without one LangGraph's interrupt asks, and the turn waits without its lease.
    """
    asked = next(iter(waiting(turn.records).values()), None)
    if asked is None:
        return False
    given = config.get("configurable", {})
    said = given.get("answer") if state.get("resume") else None
    brought = said is not None
    try:
        if said is None:
            said = _asked(asked)
        else:
            _check(asked, said)
    except (GraphInterrupt, InputError):
        turn.wait()
        raise
    by = str(given.get("by") or turn.user)
    turn.add(ANSWER, [], state["step"], key=asked["key"], answer=said, by=by)
    turn.flush()
    return brought


def _asked(asked: Mapping[str, Any]) -> Any:
    """Return the answer that a checkpointer's run goes on with; a wrong one is asked for again."""
    while True:
        said = interrupt(asked["question"], response_schema=asked["schema"])
        try:
            _check(asked, said)
        except InputError:
            continue
        return said


def _check(asked: Mapping[str, Any], said: Any) -> None:
    """Raise InputError unless an answer is JSON that fits what the tool has asked for."""
    canonical.dumps(said)
    if asked["schema"] is None:
        return
    wrong = next(Draft202012Validator(asked["schema"]).iter_errors(said), None)
    if wrong is not None:
        raise InputError(
            f"{said!r:.80} is no answer to what the tool asks: {wrong.message:.200}",
            hint=f"answer as its schema says: {canonical.dumps(asked['schema']):.300}",
        )


@contextmanager
def answering(config: RunnableConfig, records: Iterable[Record]) -> Iterator[RunnableConfig]:
    """Give a configuration in which a tool's `interrupt` finds what was answered to its call."""
    answers: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        if record.kind == ANSWER:
            body = canonical.loads(record.body)
            answers[body["key"]].append(body["answer"])
    given = config.get("configurable", {})
    pad = _Scratchpad(given.get(_SCRATCHPAD), answers)
    own: RunnableConfig = {**config, "configurable": {**given, _SCRATCHPAD: pad}}
    token = var_child_runnable_config.set(own)
    try:
        yield own
    finally:
        var_child_runnable_config.reset(token)


@dataclass
class _Call:
    """The answers to one call's questions, in the order in which LangGraph asks for them."""

    left: deque[Any]
    resume: list[Any] = field(default_factory=list)
    asked: int = 0


class _Scratchpad:
    """LangGraph's scratchpad of a task, but that every call of a tool has answers of its own.

    LangGraph counts the questions of a whole task, and so would give one call's answer to
    another where calls run beside each other.
    """

    def __init__(self, task: Any, answers: Mapping[str, list[Any]]) -> None:
        self._task = task
        self._answers = answers
        self._calls: dict[str, _Call] = {}

    def _call(self) -> _Call:
        key = context().idempotency_key
        if key not in self._calls:
            self._calls[key] = _Call(deque(self._answers.get(key, ())))
        return self._calls[key]

    @property
    def resume(self) -> list[Any]:
        """What this call's questions were answered so far."""
        return self._call().resume

    def interrupt_counter(self) -> int:
        """Count a question of this call."""
        call = self._call()
        call.asked += 1
        return call.asked - 1

    def get_null_resume(self, consume: bool = False) -> Any:
        """Return the next answer, or None: the question is open."""
        left = self._call().left
        if not left:
            return None
        return left.popleft() if consume else left[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)
