"""Students of the first kind on real models' conversations: the next action and its arguments.

Each task's conversations are answered by a student that learned from the others. Beside it stand
two guesses that need no student: the most frequent action, and the most frequent one after the
latest action. Intervals are of 95%, from resampled tasks.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh.distill.evaluate import agree
from agentmesh.distill.local import LocalStudent
from agentmesh.distill.traces import Message, Trace, conversation_traces
from benchmarks.distill.data import rows

FILES = {
    "airline": ("claude-opus-4-6", "claude-sonnet-4-5", "gpt-4o", "gpt-oss-120b"),
    "telecom": ("gpt-4.1", "gpt-4.1-sft"),
}
FOLDS = 4
AGREEMENT = 0.8
_RESAMPLES = 1_000


class Step(NamedTuple):
    """A recorded call, and what was guessed in its place."""

    task: str
    action: str
    acted: str | None
    exact: bool
    sure: bool
    frequent: str
    following: str


def run(data: Path) -> Iterator[dict[str, Any]]:
    """Yield, for each desk, how often students and guesses did what the recorded model did."""
    for desk, models in FILES.items():
        by_task = _tasks(desk, models, data)
        tasks = sorted(by_task)
        steps = [step for fold in range(FOLDS) for step in _fold(by_task, tasks, fold)]
        called = [step for step in steps if step.action != "say"]
        for name, chosen in (
            ("all calls", steps),
            ("those it is sure of", [step for step in steps if step.sure]),
            ("tool calls", called),
            ("tool calls it is sure of", [step for step in called if step.sure]),
        ):
            yield {"desk": desk, "of": name, "calls": len(chosen), **_measures(chosen)}


def _tasks(desk: str, models: Sequence[str], data: Path) -> dict[str, list[Trace]]:
    """Return the calls of solved conversations, by their task."""
    tools = json.loads((data / f"conversations/{desk}_tools.json").read_text(encoding="utf-8"))
    found: dict[str, list[Trace]] = defaultdict(list)
    for model in models:
        for row in rows(f"conversations/{desk}_{model}", data):
            if row["reward"]:
                traces = conversation_traces(row, tools)
                found[str(row["task"])] += [t for t in traces if not t.outcome.errors]
    return found


def _fold(by_task: dict[str, list[Trace]], tasks: Sequence[str], fold: int) -> Iterator[Step]:
    """Yield the steps of each fourth task, guessed from the other tasks."""
    train = [(task, t) for i, task in enumerate(tasks) if i % FOLDS != fold for t in by_task[task]]
    learned = [trace for _, trace in train]
    student = LocalStudent.fit(
        learned, agreement=AGREEMENT, groups=[task for task, _ in train], folds=3
    )
    bar, student.threshold = student.threshold, 0.0
    frequent = Counter(trace.action for trace in learned).most_common(1)[0][0]
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for trace in learned:
        after[_latest(trace)][trace.action] += 1
    for task in tasks[fold::FOLDS]:
        for trace in by_task[task]:
            guess = student.answer(trace.prompt, trace.tools)
            following = after[_latest(trace)].most_common(1)
            yield Step(
                task,
                trace.action,
                None if guess.answer is None else _action(guess.answer),
                guess.answer is not None and agree(trace.answer, guess.answer),
                guess.answer is not None and guess.confidence >= bar,
                frequent,
                following[0][0] if following else frequent,
            )


def _action(answer: Message) -> str:
    names = [call["function"]["name"] for call in answer.get("tool_calls") or ()]
    return "+".join(sorted(names)) or "say"


def _latest(trace: Trace) -> str:
    """Return what the model did right before, in this turn."""
    for message in reversed(trace.prompt):
        if message["role"] == "user":
            break
        if message["role"] == "assistant":
            return _action(message)
    return "asked"


def _measures(steps: Sequence[Step]) -> dict[str, str]:
    def acts(step: Step) -> bool:
        return (step.acted or "say") == step.action  # what is like no other answer is said

    return {
        "next action": _interval(steps, acts),
        "most frequent": _interval(steps, lambda s: s.frequent == s.action),
        "most frequent after the last": _interval(steps, lambda s: s.following == s.action),
        "with its arguments or words": _interval(steps, lambda s: s.exact),
    }


def _interval(steps: Sequence[Step], good: Callable[[Step], bool]) -> str:
    """Return a share and its interval, whole tasks resampled."""
    if not steps:
        return "-"
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for step in steps:
        counts[step.task][0] += good(step)
        counts[step.task][1] += 1
    tasks, rng = list(counts.values()), random.Random(0)
    drawn = [rng.choices(tasks, k=len(tasks)) for _ in range(_RESAMPLES)]
    shares = sorted(sum(g for g, _ in each) / sum(n for _, n in each) for each in drawn)
    low, high = shares[_RESAMPLES // 40], shares[-_RESAMPLES // 40]
    value = sum(g for g, _ in tasks) / sum(n for _, n in tasks)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
