"""What routed sessions are billed: the long trace, recorded conversations, one escalation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from agentmesh.economy.cost_model import Rates, handover
from agentmesh.economy.semantics import semantics
from agentmesh.routing import bootstrap
from benchmarks.economy.recorded import Conversation, interleaved, load
from benchmarks.routing.figure import Data, Figure
from benchmarks.routing.hindsight import hindsight, least
from benchmarks.routing.trace import (
    OUTPUT,
    PREFIX,
    PRICES,
    RESULT,
    Always,
    Asked,
    Desk,
    Pair,
    Replayed,
    Routed,
    Timed,
    by_step,
    entry,
    fitness,
    play,
    session,
    trace,
)

SEEDS = range(5)
HIDDEN = (0.0, 0.1)
PAIRS = {
    Pair("anthropic:claude-haiku-5-5", "anthropic:claude-opus-5-5"): 50.0,
    Pair("anthropic:claude-sonnet-5-5", "anthropic:claude-opus-5-5"): 15.0,
    Pair("anthropic:claude-haiku-4-5", "anthropic:claude-opus-4-8"): None,
}
"""The pairs, and how far below the large tier alone they are to be, in percent."""

SETS = (
    ("airline_claude-opus-4-6", "airline_tools"),
    ("airline_claude-sonnet-4-5", "airline_tools"),
    ("airline_gpt-4o", "airline_tools"),
    ("airline_gpt-oss-120b", "airline_tools"),
    ("telecom_gpt-4.1", "telecom_tools"),
    ("telecom_gpt-4.1-sft", "telecom_tools"),
)
LENGTH, ACCOUNT = 60_000, 1_000
"""Tokens of the prompt at which a tier takes over, and of the account in a short handover."""
PER_SET, SIDE_BY_SIDE = 25, 4
"""So many conversations of each file, and so many of them at a time."""


class Bills(NamedTuple):
    """What sessions cost by each way, one number per session."""

    large: np.ndarray
    small: np.ndarray
    naive: np.ndarray
    anchored: np.ndarray
    routed: np.ndarray
    unguarded: np.ndarray
    hindsight: np.ndarray
    least: np.ndarray
    fit: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The best single tier of each session: what the small one fails at is made again."""
        least: np.ndarray = np.minimum(self.large, self.small)
        return least


def traced(data: Data) -> Iterator[Figure]:
    """Route the long trace, each pair with and without failures that nothing foretells."""
    over, over_large, beyond = list[np.ndarray](), list[np.ndarray](), list[Bills]()
    for pair, target in PAIRS.items():
        for hidden in HIDDEN:
            bills = _bills(pair, hidden)
            over.append(100 * (bills.routed / bills.best - 1))
            over_large.append(100 * (bills.routed / bills.large - 1))
            beyond.append(bills)
            yield _saving(pair, hidden, bills, target if not hidden else None)
    worst = np.concatenate(over)
    yield Figure(
        "trace: above the best single tier, worst of 30 sessions",
        *bootstrap(partial(_worst, worst), len(worst)),
        f"mean {worst.mean():.1f}%; a tier's failures are made again by the large one",
        2.0,
        at_most=True,
        unit="%",
    )
    bound = np.concatenate(over_large)
    free = np.concatenate([100 * (one.unguarded / one.large - 1) for one in beyond])
    yield Figure(
        "trace: above the large tier alone, worst of 30 sessions (a hard bound)",
        *bootstrap(partial(_worst, bound), len(bound)),
        f"mean {bound.mean():.1f}%; without the guard {free.max():.1f}%",
        2.0,
        at_most=True,
        unit="%",
    )
    yield _above_hindsight(beyond)


def _above_hindsight(settings: Sequence[Bills]) -> Figure:
    mean = [100 * (one.routed.sum() / one.hindsight.sum() - 1) for one in settings]
    free = [100 * (one.unguarded.sum() / one.hindsight.sum() - 1) for one in settings]
    left = max(100 * (one.hindsight.sum() / one.least.sum() - 1) for one in settings)
    worst = settings[int(np.argmax(mean))]

    def above(rows: np.ndarray) -> float:
        return float(100 * (worst.routed[rows].sum() / worst.hindsight[rows].sum() - 1))

    return Figure(
        "trace: above the cheapest sequence in hindsight, worst of 6 settings",
        *bootstrap(above, len(worst.routed)),
        f"mean {np.mean(mean):.1f}%; without the guard {max(free):.1f}%; hindsight knows every "
        f"outcome, and is within {left:.2f}% of a bound with any marks and caches that never end",
        10.0,
        at_most=True,
        unit="%",
    )


def _bills(pair: Pair, hidden: float) -> Bills:
    rows = []
    for seed in SEEDS:
        calls = trace(seed, hidden)
        rows.append(
            (
                play(calls, pair, Always(pair.large)),
                play(calls, pair, Always(pair.small)),
                play(calls, pair, by_step, anchors=False),
                play(calls, pair, by_step),
                play(calls, pair, Routed(pair)),
                play(calls, pair, Routed(pair, limit=1e9)),
                play(calls, pair, Replayed(hindsight(calls, pair))),
                least(calls, pair),
                np.mean([asked.ok for asked in calls]),
            )
        )
    return Bills(*np.array(rows).T)


def _saving(pair: Pair, hidden: float, bills: Bills, target: float | None) -> Figure:
    def below(costs: np.ndarray) -> float:
        return 100 * (1 - float(costs.sum() / bills.large.sum()))

    interval = bootstrap(
        lambda i: 100 * (1 - float(bills.routed[i].sum() / bills.large[i].sum())), len(SEEDS)
    )
    return Figure(
        f"trace: {_name(pair)}, {hidden:.0%} hidden failures: below all-large",
        *interval,
        f"naive per step {below(bills.naive):.0f}%, with anchors {below(bills.anchored):.0f}%, "
        f"small first {below(bills.small):.0f}%, unguarded {below(bills.unguarded):.1f}%, "
        f"hindsight {below(bills.hindsight):.1f}%; {bills.fit.mean():.0%} of the steps are fit",
        target,
        unit="%",
    )


def _worst(values: np.ndarray, rows: np.ndarray) -> float:
    return float(values[rows].max())


def _name(pair: Pair) -> str:
    return "+".join(model.removeprefix("anthropic:claude-") for model in reversed(pair))


def recorded(data: Data) -> Iterator[Figure]:
    """Route recorded conversations that go on side by side and share their instructions."""
    for pair in PAIRS:
        rows = []
        for name, tools in SETS:
            for hidden in HIDDEN:
                calls = _recorded(data, name, tools, hidden)
                ways = (
                    Always(pair.large),
                    Always(pair.small),
                    by_step,
                    Routed(pair, sharers=PER_SET),
                )
                rows.append([play(calls, pair, way) for way in ways])
        large, small, naive, routed = np.array(rows).T
        best = np.minimum(large, small)
        over = 100 * (routed / best - 1)
        yield Figure(
            f"conversations: {_name(pair)}: above the best single tier, worst of 12 sets",
            *bootstrap(partial(_worst, over), len(over)),
            f"mean {over.mean():.1f}%, naive per step {100 * (naive / best - 1).max():.1f}%, "
            f"all-large {100 * (large / best - 1).max():.0f}%",
            2.0,
            at_most=True,
            unit="%",
        )


def _recorded(data: Data, name: str, tools: str, hidden: float) -> list[Asked]:
    folder = data.root / "conversations"
    found = load(folder / f"{name}.jsonl", folder / f"{tools}.json")[:PER_SET]
    counts = [len(one.steps) for one in found]
    rules = semantics("anthropic:claude-opus-5-5")
    times: dict[str, list[Timed]] = {one.name: [] for one in found}
    for asked in interleaved(found, rules, SIDE_BY_SIDE):
        steps = times[asked.conversation.name]
        left = float(np.mean([count - len(steps) for count in counts if count > len(steps)]))
        steps.append(Timed(asked.at, len(asked.shown), left))
    calls = [call for one in found for call in _conversation(one, times[one.name], hidden)]
    return sorted(calls, key=lambda call: call.at)


def _conversation(one: Conversation, steps: Sequence[Timed], hidden: float) -> Iterator[Asked]:
    truth = fitness(len(steps), one.name, hidden)
    return session(
        one.name, one.layers, one.entries, steps, truth, frozen=one.core.text, output=100
    )


def escalated(data: Data) -> Iterator[Figure]:
    """Let a tier take over at 60k tokens that it has never seen but for the shared prefix."""
    ratios, anchored = [], []
    for model in ("claude-opus-5-5", "claude-sonnet-5-5", "claude-opus-4-8", "claude-sonnet-4-6"):
        for steps in (1, 2, 4):
            cold, taken = _taken_over(f"anthropic:{model}", steps, None)
            ratios.append(100 * taken / cold)
            anchored.append(100 * _taken_over(f"anthropic:{model}", 1, 5 * steps)[1] / cold)
    parts = np.array(ratios)
    yield Figure(
        "escalation at a 60k-token prefix: share of a cold full replay",
        *bootstrap(lambda i: float(parts[i].mean()), len(parts)),
        f"worst {parts.max():.0f}%; back at an anchor of 5 to 20 steps ago "
        f"{np.mean(anchored):.0f}%; full replay 100%",
        25.0,
        at_most=True,
        unit="%",
    )


def _taken_over(model: str, kept: int, away: int | None) -> tuple[float, float]:
    """Return what a cold full replay is billed, and the way that the cost model takes.

    A brief shows the newest `kept` steps and an account of 1,000 tokens; `away` is how many
    steps ago the model was asked last, None for never.
    """
    calls = trace(0, 0.0)
    number = (LENGTH - PREFIX) // (RESULT + OUTPUT)
    asked = calls[number]
    cold = Desk(Pair(model, model)).call(model, asked)
    desk = Desk(Pair(model, model))
    desk.call(model, _again(calls[0], "somebody else", asked.at - 60))
    if away:
        desk.call(model, calls[number - away])
    brief = _brief(asked, kept)
    way = handover(
        Rates.of(model, PRICES, tokens=asked.length, at=asked.at),
        asked.length,
        anchor=desk.usage(model, asked).read if away else 0,
        shared=PREFIX,
        brief=brief.length - PREFIX,
    )
    return cold, desk.call(model, brief if way.how == "brief" else asked)


def _again(asked: Asked, name: str, at: float) -> Asked:
    return asked._replace(session=name, at=at)


def _brief(asked: Asked, kept: int) -> Asked:
    """Return the same step with a short account in place of all but the newest steps."""
    newest = asked.entries[asked.shown - 2 * kept : asked.shown]
    account = entry(1, "user", ACCOUNT)
    entries = [account, *(replace(one, seq=i) for i, one in enumerate(newest, 2))]
    length = PREFIX + sum(one.tokens for one in entries)
    return asked._replace(
        session="brief", entries=entries, shown=len(entries), length=length, new=length
    )
