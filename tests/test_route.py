"""Which tier drafts next: escalation that pays, kinds that are pinned, a session that is guarded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError, TurnError
from agentmesh.memory import Memory
from agentmesh.memory.views import View
from agentmesh.routing import Agreement, CheckContext, Draft, Judge, Policy, Router, Rules
from agentmesh.testing import Answer, Emulator, Request, emulator
from agentmesh.tools import tool

SMALL, LARGE = "claude-haiku-4-5", "claude-opus-5-5"
RULES = Rules.parse(
    '[[rule]]\nname = "any"\nkind = "simple"\nany = ["please"]\nexample = "please"\n'
)
CORE = "You are the desk of a shop. " * 250

Brain = Callable[[Request], Answer]


class Vendor:
    """Models whose answers can be changed while an agent runs."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.says: dict[str, Brain] = {}

    def __call__(self, request: Request) -> Answer:
        self.seen.append(request)
        says = self.says.get(request.model)
        return says(request) if says else Answer(f"{request.model} answers.")


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def server(vendor: Vendor) -> Iterator[Emulator]:
    with emulator(vendor) as running:
        yield running


def tier(server: Emulator, name: str, model: str, **more: Any) -> Tier:
    return Tier(name, f"anthropic:{model}", base_url=server.url, **more)


def desk(server: Emulator, policy: Policy | None = None, **arguments: Any) -> Agent:
    arguments.setdefault("tiers", [tier(server, "small", SMALL), tier(server, "large", LARGE)])
    return Agent("desk", CORE, router=Router(RULES).under(policy or Policy()), **arguments)


def refused_when(words: str) -> Callable[[Draft, CheckContext], str | None]:
    def refuses(draft: Draft, context: CheckContext) -> str | None:
        return f"it says {words!r}" if words in draft.text else None

    return refuses


def test_a_kind_that_keeps_failing_starts_above_in_any_process_until_the_next_epoch(
    server: Emulator, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'mesh.db'}"

    def ask(n: int) -> list[str]:
        agent = desk(
            server, Policy(pin_after=2, guard=None), memory=url, checks=[refused_when(SMALL)]
        )
        return [call.tier for call in agent.invoke(f"{n} please", session="s1").steps]

    assert [ask(n) for n in range(3)] == [["small", "large"], ["small", "large"], ["large"]]
    last = Memory(url).ledger.calls(session="s1")[-1]
    assert last.decision["stage"] == "pinned"
    assert "2 drafts of a simple step" in last.decision["reason"]
    core = "You are another desk. " * 200
    tiers = [tier(server, "small", SMALL), tier(server, "large", LARGE)]
    other = Agent("desk", core, tiers=tiers, router=Router(RULES), memory=url)
    assert other.invoke("9 please", session="s1").steps[0].tier == "small"  # a new epoch


def test_a_session_that_costs_too_much_keeps_to_the_best_single_tier_after_a_restart_as_well(
    server: Emulator, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'mesh.db'}"

    def ask(n: int, guard: float | None) -> list[str]:
        policy = Policy(pin_after=99, guard=guard, stake_usd=0.0035)  # one draft
        agent = desk(server, policy, memory=url, checks=[refused_when(SMALL)])
        return [call.tier for call in agent.invoke(f"{n} please", session="s1").steps]

    assert ask(0, 0.02) == ["small", "large"]
    assert ask(1, 0.02) == ["large"]
    rows = Memory(url).ledger.calls(session="s1")
    assert rows[-1].decision["stage"] == "guard"
    sums = rows[1].decision["guard"]
    assert sums["paid"] == sum(row.cost or 0 for row in rows[:2])
    assert sums["paid"] > sums["alone"] > 0
    assert sums["paid"] <= sums["alone"] + max(0.02 * sums["alone"], sums["stake"])
    assert ask(2, None) == ["small", "large"]


def test_no_session_costs_much_more_than_its_best_single_tier_whatever_the_router_believes(
    server: Emulator,
) -> None:
    policy = Policy(pin_after=99, stake_usd=0.0035)  # one draft
    agent = desk(server, policy, checks=[refused_when(SMALL)])
    for n in range(12):
        agent.invoke(f"{n} please", session="s1")
    calls = agent.memory.ledger.calls(session="s1")
    paid = sum(call.cost or 0 for call in calls)
    large = [call.cost or 0 for call in calls if call.tier == "large"]
    failed = [call for call in calls if call.tier == "small"]
    assert len(failed) < 4  # of 12: each one was money lost
    assert paid - sum(large) <= 0.02 * sum(large) + max(call.cost or 0 for call in failed)


def test_what_the_sessions_of_an_agent_have_saved_may_be_lost_by_the_next_one(
    server: Emulator, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'mesh.db'}"
    tiers = [tier(server, "small", "claude-haiku-5-5"), tier(server, "large", LARGE)]
    agent = desk(server, tiers=tiers, memory=url)
    for n in range(30):
        agent.invoke(f"{n} please", session="s1")
    told = agent.memory.ledger.calls(session="s1")[-1].decision["guard"]
    saved = told["alone"] - told["paid"]

    def stake(name: str, session: str) -> int:
        other = Agent(name, CORE, router=Router(RULES), tiers=tiers, memory=url)
        other.invoke("please", session=session)
        return int(other.memory.ledger.calls(session=session)[-1].decision["guard"]["stake"])

    assert stake("desk", "s2") == saved
    assert stake("another desk", "s3") < saved


def test_a_long_log_is_taken_over_by_a_brief_for_a_quarter_of_its_replay(
    server: Emulator, vendor: Vendor
) -> None:
    def echo(request: Request) -> Answer:
        return Answer("The hard one?" if "hard one" in request.user_text else "Read.")

    def taken_over(handoff: View | None) -> list[Any]:
        tiers = [tier(server, "small", SMALL), tier(server, "large", LARGE, handoff=handoff)]
        checks = [refused_when("hard one")]
        agent = desk(server, Policy(guard=None), tiers=tiers, checks=checks, compaction=None)
        for n in range(8):
            agent.invoke(f"please read this, {n}: " + "lorem ipsum dolor " * 1_750, session="s1")
        steps = agent.invoke("please, the hard one", session="s1").steps
        agent.memory.verify()
        assert [step.tier for step in steps] == ["small", "large"]
        server.reset()
        return steps

    vendor.says[SMALL] = echo
    whole, brief = taken_over(None)[1], taken_over(View(history_turns=1))[1]
    assert whole.usage.input > 60_000
    assert (whole.decision["handover"], brief.decision["handover"]) == ("replay", "brief")
    assert 0 < brief.cost <= 0.25 * whole.cost


def test_a_tier_that_still_has_the_session_cached_takes_over_from_there(
    server: Emulator, vendor: Vendor
) -> None:
    vendor.says[SMALL] = lambda request: Answer("Hm." if "hard" in request.user_text else "Read.")
    agent = desk(server, Policy(guard=None), checks=[refused_when("Hm.")], compaction=None)
    text = "please read this: " + "lorem ipsum dolor " * 1_000
    for words in (f"hard, {text}", text, text, "please, the hard one"):
        steps = agent.invoke(words, session="s1").steps
    assert [step.tier for step in steps] == ["small", "large"]
    assert steps[1].decision["handover"] == "anchor"
    assert steps[1].decision["costs"]["large"] > 0
    assert steps[1].usage.read > 4_000


def test_a_user_who_has_used_up_the_escalations_gets_another_draft_and_then_the_fallback(
    server: Emulator,
) -> None:
    policy = Policy(escalations=1, guard=None, pin_after=9)
    agent = desk(server, policy, checks=[refused_when(SMALL)], fallback="Please call us.")
    first = agent.invoke("please", user="u1", session="s1")
    second = agent.invoke("please", user="u1", session="s2")
    other = agent.invoke("please", user="u2", session="s3")
    assert [call.tier for call in first.steps] == ["small", "large"]
    assert [call.tier for call in second.steps] == ["small", "small"]
    assert second.text == "Please call us."
    assert [call.tier for call in other.steps] == ["small", "large"]


def test_the_third_stage_asks_the_tier_that_it_is_given_and_the_ledger_has_the_call(
    server: Emulator, vendor: Vendor
) -> None:
    def says(request: Request) -> Answer:
        return Answer("complex" if request.user_text.endswith("kind: ") else "Well.")

    vendor.says[SMALL] = says
    router = Router.auto().under(Policy(few_shot="small", sure=1.0))
    tiers = [tier(server, "small", SMALL), tier(server, "large", LARGE)]
    agent = Agent("desk", CORE, tiers=tiers, router=router)
    reply = agent.invoke("Which of these two should it be?", session="s1")
    asked, drafted = reply.steps
    assert (asked.purpose, asked.tier, asked.outcome) == ("route", "small", "ok")
    assert (drafted.purpose, drafted.tier, drafted.decision["stage"]) == ("act", "large", "model")
    assert asked.cost
    agent.memory.verify()
    with pytest.raises(ConfigError, match="tier 'nobody' is not defined"):
        Agent("b", CORE, tiers=tiers, router=router.under(Policy(few_shot="nobody")))


@tool(side_effect="external")
def refund(order: str) -> str:
    """Pay an order back.

    Args:
        order: The order's number.
    """
    return f"paid {order}"


@tool
def look_up(order: str) -> str:
    """Look an order up.

    Args:
        order: The order's number.
    """
    return f"{order} is on its way"


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_a_call_with_an_effect_is_judged_and_one_that_reads_is_not(
    server: Emulator, vendor: Vendor, mode: str
) -> None:
    def small(request: Request) -> Answer:
        if request.results:
            return Answer("It is done.")
        name = "refund" if "refund" in request.user_text else "look_up"
        return Answer("", [(name, {"order": "W1"})])

    def large(request: Request) -> Answer:
        if "<draft>" in request.user_text:
            return Answer("10. Nobody asked for money." if "refund" in request.user_text else "95")
        return Answer("I do not pay that.")

    def ask(text: str, session: str) -> list[tuple[str, str, str]]:
        if mode == "invoke":
            reply = agent.invoke(text, session=session)
        else:
            reply = asyncio.run(agent.ainvoke(text, session=session))
        return [(call.purpose, call.tier, call.outcome) for call in reply.steps]

    vendor.says = {SMALL: small, LARGE: large}
    policy = Policy(guard=None, checks=(Judge("large", bars={"external": 0.9}),))
    agent = desk(server, policy, tools=[refund, look_up])
    assert ask("please look up W1", "s1") == [("act", "small", "ok"), ("act", "small", "ok")]
    assert ask("please refund W1", "s2") == [
        ("judge", "large", "ok"),
        ("act", "small", "check:judge"),
        ("act", "large", "ok"),
    ]
    assert not [e for e in agent.memory.history("s2").entries() if e.kind == "tool"]
    agent.memory.verify()


def test_samples_of_the_same_tier_must_agree_with_a_draft(server: Emulator, vendor: Vendor) -> None:
    drafts = iter(["W1", "W2", "W3"])

    def small(request: Request) -> Answer:
        return Answer("", [("refund", {"order": next(drafts)})])

    vendor.says = {SMALL: small, LARGE: lambda request: Answer("I would rather ask.")}
    policy = Policy(checks=(Agreement(3, bars={"refund": 1.0}),))
    reply = desk(server, policy, tools=[refund]).invoke("please refund W1, W2, W3", session="s1")
    assert reply.text == "I would rather ask."
    assert [call.purpose for call in reply.steps] == ["sample", "act", "act"]
    assert reply.steps[1].outcome == "check:agreement"


def test_refuses_a_policy_that_names_what_there_is_not(server: Emulator) -> None:
    with pytest.raises(ConfigError, match="tier 'judge' is not defined"):
        desk(server, Policy(checks=(Judge("judge"),)))
    with pytest.raises(ConfigError, match="'pay', which is no tool"):
        desk(server, Policy(checks=(Agreement(bars={"pay": 0.5}),)), tools=[refund])


@pytest.mark.parametrize(
    "wrong",
    [
        {"guard": -1},
        {"pin_after": 0},
        {"escalations": -1},
        {"sure": 0},
        {"checks": ("verifier",)},
    ],
)
def test_refuses_a_policy_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Policy(**wrong)


def test_a_failed_turn_leaves_no_half_answer(server: Emulator, vendor: Vendor) -> None:
    agent = desk(server, checks=[refused_when("answers")])
    with pytest.raises(TurnError, match=r"small: it says 'answers'; large: .*; large: "):
        agent.invoke("please", session="s1")
    assert [e.kind for e in agent.memory.history("s1").entries()] == ["user"]
    vendor.says = dict.fromkeys((SMALL, LARGE), lambda request: Answer("Hello."))
    assert agent.invoke("please", session="s1").text == "Hello."
