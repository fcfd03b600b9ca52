"""Chooses which calls to learn from, and says why of each.

Two passes over the traces, neither of which holds them: the first counts, the second chooses.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agentmesh.distill.formats import Example
from agentmesh.distill.traces import Message, Trace
from agentmesh.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes a call worth learning from.

    Args:
        tiers: whose answers teach; None for every tier but those named in `students`.
        students: tiers that are students themselves.
        min_score: of the turn's feedback, where it has any.
        min_reward: of the conversation, where it has one.
        needs_feedback: leave out turns of which nobody said anything.
        slack: how many steps more than the median turn of its kind a turn may have taken.
        per_action: at most so many rows of one kind and action, drawn evenly by hash; None
            for all.
    """

    tiers: frozenset[str] | None = None
    students: frozenset[str] = frozenset({"student"})
    min_score: float = 0.5
    min_reward: float = 1.0
    needs_feedback: bool = False
    slack: int = 1
    per_action: int | None = None

    def __post_init__(self) -> None:
        if self.slack < 0:
            raise ConfigError(f"slack={self.slack!r}", hint="a count of steps, 0 or more")
        if self.per_action is not None and self.per_action < 1:
            raise ConfigError(f"per_action={self.per_action!r}", hint="a count of rows, or None")


class Choice(NamedTuple):
    """A trace, whether it is learned from, and why or why not."""

    trace: Trace
    kept: bool
    reason: str


@dataclass
class Survey:
    """What the first pass counted: rows per kind and action, turn lengths per kind."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    lengths: dict[str, dict[int, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )

    def add(self, trace: Trace) -> None:
        """Count a trace that may be learned from."""
        self.rows[trace.kind, trace.action] += 1
        steps = trace.outcome.steps
        self.lengths[trace.kind][steps] += 1 / steps  # its turn is counted once for each call

    def median(self, kind: str) -> int:
        """Return the number of calls of the median turn of a kind."""
        counts = self.lengths.get(kind) or {1: 1.0}
        half, seen = sum(counts.values()) / 2, 0.0
        for steps in sorted(counts):
            seen += counts[steps]
            if seen >= half - 1e-9:
                return steps
        return max(counts)


def select(
    source: Callable[[], Iterable[Trace]],
    policy: Policy | None = None,
    *,
    known: Callable[[Trace], bool] | None = None,
    judge: Callable[[Trace], str | None] | None = None,
) -> Iterator[Choice]:
    """Yield every trace with the choice made on it, in the order of the source.

    Args:
        source: called once per pass; each call yields the same traces anew.
        policy: the rules.
        known: says that a cheaper tier already answers this call as the teacher did.
        judge: returns why a trace is not good enough, or None; asked last.
    """
    policy = policy or Policy()
    survey = Survey()
    for trace in source():
        if not fault(trace, policy):
            survey.add(trace)
    for trace in source():
        yield _choose(trace, policy, survey, known, judge)


def fault(trace: Trace, policy: Policy) -> str:
    """Return why a trace must not be learned from whatever the others are; "" if nothing is wrong."""
    outcome = trace.outcome
    taught = trace.tier in policy.tiers if policy.tiers else trace.tier not in policy.students
    if not taught:
        return f"tier {trace.tier} does not teach"
    if not trace.clean:
        return "a check refused it"
    if outcome.status != "done":
        return f"the turn ended as {outcome.status or 'unfinished'}"
    if outcome.errors:
        return "a tool that it called failed"
    if outcome.score is not None and outcome.score < policy.min_score:
        return f"feedback {outcome.score:g} is below {policy.min_score:g}"
    if outcome.reward is not None and outcome.reward < policy.min_reward:
        return f"reward {outcome.reward:g} is below {policy.min_reward:g}"
    if policy.needs_feedback and outcome.score is None and outcome.reward is None:
        return "nobody said how it went"
    if repeats(trace):
        return "it repeats a call that the turn had made"
    return ""


def repeats(trace: Trace) -> bool:
    """Say whether the answer makes a call that the same turn has already made."""
    asked = {_identity(call) for call in trace.answer.get("tool_calls") or ()}
    for message in reversed(trace.prompt) if asked else ():
        if message["role"] == "user":
            return False
        if any(_identity(call) in asked for call in message.get("tool_calls") or ()):
            return True
    return False


def _identity(call: Message) -> tuple[str, str]:
    return call["function"]["name"], call["function"]["arguments"]


def _choose(
    trace: Trace,
    policy: Policy,
    survey: Survey,
    known: Callable[[Trace], bool] | None,
    judge: Callable[[Trace], str | None] | None,
) -> Choice:
    if why := fault(trace, policy):
        return Choice(trace, False, why)
    median = survey.median(trace.kind)
    if trace.outcome.steps > median + policy.slack:
        steps = trace.outcome.steps
        return Choice(trace, False, f"{steps} steps where {median} are usual")
    if known is not None and known(trace):
        return Choice(trace, False, "a cheaper tier does it already")
    rows = survey.rows[trace.kind, trace.action]
    if policy.per_action and _fraction(trace.id) >= policy.per_action / rows:
        return Choice(trace, False, f"enough of {trace.action} without it")
    if judge is not None and (why := judge(trace) or ""):
        return Choice(trace, False, f"judge: {why}")
    if trace.outcome.escalated:
        return Choice(trace, True, "a cheaper tier had failed here")
    if trace.outcome.score is not None or trace.outcome.reward is not None:
        return Choice(trace, True, "it was told to be good")
    return Choice(trace, True, "nothing was wrong with it")


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def to_examples(
    choices: Iterable[Choice], reasons: Counter[str] | None = None
) -> Iterator[Example]:
    """Yield training examples of chosen calls; what was not chosen is shown but not learned.

    Calls of a conversation are one example where each one's prompt continues the last one's;
    where a prompt did not grow (another epoch, a volatile tail) a new example begins, so that
    every answer is learned under exactly the prompt that it was given to.
    """
    last: Trace | None = None
    trained: list[int] = []
    for choice in choices:
        if reasons is not None:
            reasons[choice.reason] += 1
        trace = choice.trace
        if last is not None and not _continues(last, trace):
            if trained:
                yield _example(last, trained)
            last, trained = None, []
        if choice.kept:
            last = trace
            trained.append(len(trace.prompt))
    if last is not None and trained:
        yield _example(last, trained)


def _continues(last: Trace, trace: Trace) -> bool:
    """Say whether a call's prompt begins with an earlier call's prompt and answer."""
    n = len(last.prompt)
    return (
        trace.conversation == last.conversation
        and len(trace.prompt) > n
        and trace.tools == last.tools
        and trace.prompt[n] == last.answer
        and trace.prompt[:n] == last.prompt
    )


def _example(trace: Trace, trained: list[int]) -> Example:
    return Example((*trace.prompt, trace.answer), trace.tools, tuple(trained))
