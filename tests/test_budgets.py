"""Budgets: what is stopped, what takes a cheaper tier, and what concurrent turns can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from agentmesh import Agent, Budget, Price, Tier
from agentmesh.errors import BudgetError, ConfigError
from agentmesh.memory import Memory
from agentmesh.memory.compaction import Compaction
from agentmesh.routing import Decision, Router, Rules
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator

POLICY = "You are the desk of a shop. " * 250
LONG = "Tell me more about it, at length. " * 40

Build = Callable[..., Agent]


class Always(Router):
    """Routes every step to one tier."""

    def __init__(self, tier: str) -> None:
        super().__init__(Rules())
        self._tier = tier

    def route(self, step: Any, tiers: Any) -> Decision:
        return Decision(self._tier, "rules", "always", "simple")


@pytest.fixture
def server() -> Iterator[Emulator]:
    brains = {
        "claude-opus-5-5": lambda request: Answer("The flagship's answer. " * 20),
        "desk": lambda request: Answer("The student's answer."),
    }
    with emulator(brains, latency_s=0.02) as running:
        yield running


@pytest.fixture
def build(server: Emulator) -> Build:
    def make(*, student: bool = False, **arguments: Any) -> Agent:
        tiers = [Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)]
        if student:
            price = Price("0.05", "0.20")
            url = server.openai_url
            tiers.insert(0, Tier("student", "openai-compatible:desk", base_url=url, price=price))
            arguments = {"router": Always("flagship"), **arguments}
        return Agent("desk", POLICY, **{"tiers": tiers, **arguments})

    return make


def until_stopped(agent: Agent, **who: Any) -> BudgetError:
    with pytest.raises(BudgetError) as caught:
        ask_on(agent, who)
    return caught.value


def ask_on(agent: Agent, who: dict[str, Any]) -> None:
    for number in range(60):
        chosen = {name: value.format(number) for name, value in who.items()}
        list(agent.stream(LONG, **chosen))


@pytest.mark.parametrize(
    ("scope", "who"),
    [
        ("session", {"user": "u1", "session": "s1"}),
        ("user", {"user": "u1", "session": "s{}"}),
        ("day", {"user": "u{}", "session": "s{}"}),
    ],
)
def test_stops_before_the_call_that_would_exceed(
    build: Build, server: Emulator, scope: str, who: dict[str, str]
) -> None:
    limit = 0.03
    limits: dict[str, Any] = {f"{scope}_usd": limit}
    agent = build(budget=Budget(**limits))
    error = until_stopped(agent, **who)
    calls = agent.memory.ledger.calls()
    spent = sum(call.cost or 0 for call in calls)
    assert 0 < spent <= limit * 1e6
    assert len(server.bills) == len(calls)  # the refused call was not made
    assert f"Budget({scope}_usd=...)" in error.hint
    assert "has spent $0.0" in str(error)
    assert "\n" not in str(error)


def test_a_turns_budget_counts_its_refused_drafts_and_begins_anew_with_each_turn(
    build: Build, server: Emulator
) -> None:
    first = build().invoke(LONG, session="s0").cost.micro
    assert first
    budget = Budget(turn_usd=(first + 4_500) / 1e6)  # an answer of 300 tokens costs 6,000
    server.reset()
    never = build(budget=budget, checks=[lambda draft, context: "never good enough"])
    with pytest.raises(BudgetError, match="the turn has spent"):
        never.invoke(LONG, session="s1")
    assert [call.outcome for call in never.memory.ledger.calls()] == ["check:<lambda>"]
    agent = build(budget=budget)
    assert all(agent.invoke(LONG, session="s1").text for _ in range(6))
    assert agent.memory.ledger.spent("s1") > first + 4_500


def test_other_users_and_sessions_have_budgets_of_their_own(build: Build) -> None:
    agent = build(budget=Budget(user_usd=0.03))
    until_stopped(agent, user="u1", session="s{}")
    assert agent.invoke(LONG, user="u2", session="t1").text
    other = build(budget=Budget(session_usd=0.03))
    until_stopped(other, user="u1", session="s1")
    assert other.invoke(LONG, user="u1", session="s2").text


def test_a_day_ends_at_midnight_utc(build: Build) -> None:
    now = datetime(2026, 11, 20, 23, 50, tzinfo=UTC)
    memory = Memory(clock=lambda: now.timestamp())
    agent = build(memory=memory, budget=Budget(day_usd=0.03))
    until_stopped(agent, session="s{}")
    now += timedelta(minutes=9)
    with pytest.raises(BudgetError, match="this day has spent"):
        agent.invoke(LONG, session="again")
    now += timedelta(minutes=2)
    assert agent.invoke(LONG, session="tomorrow").text


def test_takes_a_cheaper_tier_that_fits(build: Build) -> None:
    agent = build(student=True, budget=Budget(session_usd=0.03, on_exceed="cheaper"))
    replies = [agent.invoke(LONG, session="s1")]
    while replies[-1].steps[0].tier == "flagship":
        replies.append(agent.invoke(LONG, session="s1"))
    tiers = [reply.steps[0].tier for reply in replies]
    assert tiers == ["flagship"] * (len(tiers) - 1) + ["student"]
    assert len(tiers) > 2
    assert "The student's answer." in replies[-1].text
    moved = replies[tiers.index("student")].steps[0].decision
    assert moved["stage"] == "budget"
    assert "exceed $0.0300" in moved["reason"]
    assert agent.memory.ledger.spent("s1") <= 30_000


def test_stops_where_no_cheaper_tier_fits_or_all_of_them_failed(build: Build) -> None:
    poor = Budget(turn_usd=0.00001, on_exceed="cheaper")
    with pytest.raises(BudgetError, match="tier 'flagship'"):
        build(student=True, budget=poor).invoke(LONG, session="s1")
    refused = build(
        student=True,
        router=Always("student"),
        budget=Budget(turn_usd=0.001, on_exceed="cheaper"),
        checks=[lambda draft, context: "never good enough"],
    )
    with pytest.raises(BudgetError, match="tier 'flagship'"):
        refused.invoke(LONG, session="s1")
    assert [call.tier for call in refused.memory.ledger.calls()] == ["student"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_concurrent_turns_of_a_user_stay_within_the_budget(
    build: Build, server: Emulator, tmp_path: Path, asynchronous: bool
) -> None:
    """Answers are as long as expected once each session has one, so nothing at all overshoots."""
    limit = 0.1
    memory = f"sqlite:///{tmp_path / 'm.db'}"
    agent = build(memory=memory, budget=Budget(user_usd=limit))

    def one(number: int) -> bool:
        try:
            agent.invoke(LONG, user="u1", session=f"s{number % 8}")
        except BudgetError:
            return False
        return True

    async def aone(number: int) -> bool:
        try:
            await agent.ainvoke(LONG, user="u1", session=f"s{number % 8}")
        except BudgetError:
            return False
        return True

    async def all_of_them() -> list[bool]:
        done: list[bool] = []
        for start in range(0, 64, 8):
            done += await asyncio.gather(*(aone(start + n) for n in range(8)))
        return done

    if asynchronous:
        done = asyncio.run(all_of_them())
    else:
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(one, range(64)))
    spent = sum(call.cost or 0 for call in agent.memory.ledger.calls(user="u1"))
    assert 0 < sum(done) < 64
    assert 0.8 * limit * 1e6 < spent <= limit * 1e6
    assert sum(bill.cost_micro or 0 for bill in server.bills) == spent


def test_answers_longer_than_expected_overshoot_by_no_more_than_themselves() -> None:
    with emulator(lambda request: Answer("word " * 4_000)) as server:
        tier = Tier("only", "anthropic:claude-opus-5-5", base_url=server.url, max_tokens=9_999)
        agent = Agent("desk", POLICY, tiers=[tier], budget=Budget(session_usd=0.04))
        until_stopped(agent, session="s1")
        calls = agent.memory.ledger.calls()
        spent = [call.cost or 0 for call in calls]
        assert sum(spent[:-1]) <= 40_000
        assert sum(spent) <= 40_000 + spent[-1]


def test_a_call_whose_cost_nobody_told_counts_as_expected() -> None:
    def cut(request: Request) -> Answer:
        return Answer("word " * 100, fault=Fault("cut", after=3))

    with emulator(cut) as server:
        tier = Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)
        agent = Agent("desk", POLICY, tiers=[tier], budget=Budget(turn_usd=0.03))
        assert "the turn has spent" in str(until_stopped(agent, session="s1"))
        calls = agent.memory.ledger.calls()
        assert {call.cost for call in calls} == {None}
        assert {call.outcome for call in calls} == {"error:cut_stream"}


def test_a_digest_that_the_budget_forbids_takes_nothing_from_the_answer(
    build: Build, server: Emulator
) -> None:
    compaction = Compaction(keep_turns=1, keep_tokens=100, digest_tokens=50, max_tokens=2_600)
    free = build(compaction=compaction)
    while not any(call.purpose == "digest" for call in free.memory.ledger.calls()):
        free.invoke(LONG, session="s1")
    *before, digest = [call.cost or 0 for call in free.memory.ledger.calls()]
    server.reset()
    agent = build(
        compaction=compaction, budget=Budget(session_usd=(sum(before) + digest / 2) / 1e6)
    )
    assert all(agent.invoke(LONG, session="s1").text for _ in before)
    assert [call.purpose for call in agent.memory.ledger.calls()] == ["act"] * len(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"turn_usd": 0}, "turn_usd=0 is no budget"),
        ({"session_usd": -1}, "session_usd=-1 is no budget"),
        ({"user_usd": float("nan")}, "user_usd=nan is no budget"),
        ({"day_usd": float("inf")}, "day_usd=inf is no budget"),
        ({"day_usd": "10"}, "day_usd='10' is no budget"),
        ({"turn_usd": True}, "turn_usd=True is no budget"),
        ({"on_exceed": "panic"}, "on_exceed='panic'"),
    ],
)
def test_refuses_what_is_no_budget(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Budget(**arguments)
    assert caught.value.hint


def test_refuses_a_tier_whose_price_it_would_not_know() -> None:
    tier = Tier("only", FakeListChatModel(responses=["Fine."]))
    with pytest.raises(ConfigError, match="cannot count tier 'only'") as caught:
        Agent("a", "Answer.", tiers=[tier], budget=Budget(day_usd=1))
    assert "price=Price" in caught.value.hint
