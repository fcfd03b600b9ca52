"""An agent's turns, end to end: the real graph, real SDKs over HTTP, a real database."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage

from agentmesh import Agent, Budget, Price, Tier
from agentmesh.errors import BudgetError, ConfigError, InputError, StoreError, TurnError
from agentmesh.memory import Memory
from agentmesh.routing import CheckContext, Decision, Draft, Router, Rules, Step, TierFacts
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator
from agentmesh.tools import context, declare, tool

POLICY = "You are the desk of a shop. " * 250  # long enough to be cached

Build = Callable[..., Agent]


def flagship(request: Request) -> Answer:
    if request.results:
        return Answer("It says: " + " | ".join(request.results))
    if "order" in request.user_text:
        orders = re.findall(r"W\d", request.user_text) or ["W1"]
        return Answer("I look it up.", [("order_status", {"order": order}) for order in orders])
    name = "Ann" if "Ann" in request.system + request.user_text else "you"
    return Answer(f"The flagship greets {name}.")


def student(request: Request) -> Answer:
    if "order" in request.user_text:
        return Answer("", [("no_such_tool", {})])
    return Answer("The student says hello.")


@tool
def order_status(order: str) -> str:
    """Look up an order.

    Args:
        order: The order's number.
    """
    return f"{order} of {context().user} is on its way"


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator({"claude-opus-5-5": flagship, "desk": student}) as running:
        yield running


@pytest.fixture
def build(server: Emulator) -> Build:
    def make(*, student: bool = True, **arguments: Any) -> Agent:
        tiers = [Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)]
        if student:
            price = Price("0.05", "0.20")
            url = server.openai_url
            tiers.insert(0, Tier("student", "openai-compatible:desk", base_url=url, price=price))
        arguments = {"tiers": tiers, "tools": [order_status], **arguments}
        return Agent("desk", POLICY, **arguments)

    return make


def test_answers_a_simple_message_on_the_cheapest_tier(build: Build) -> None:
    reply = build().invoke("Hello there!", user="u1", session="s1")
    assert reply.text == "The student says hello."
    assert [call.tier for call in reply.steps] == ["student"]
    assert reply.cost.micro == reply.steps[0].cost
    assert str(reply.cost).startswith("$0.")


def test_escalates_a_refused_draft_and_leaves_no_trace_of_it(build: Build) -> None:
    agent = build()
    reply = agent.invoke("Where is my order W7?", user="u1", session="s1")
    assert reply.text == "It says: W7 of u1 is on its way"
    outcomes = [(call.tier, call.outcome) for call in reply.steps]
    assert outcomes == [
        ("student", "check:known_tool"),
        ("flagship", "ok"),
        ("flagship", "ok"),
    ]
    assert "no_such_tool" in reply.steps[0].detail
    assert all("no_such_tool" not in r.body for r in agent.memory.history("s1").records())
    assert "escalation" in reply.steps[1].decision["stage"]


def test_runs_parallel_calls_and_logs_their_results_in_the_order_of_the_calls(build: Build) -> None:
    agent = build(student=False)
    reply = agent.invoke("Where are my order W1 and W2 and W3 ?", user="u1", session="s1")
    results = [e for e in agent.memory.history("s1").entries() if e.kind == "tool"]
    assert [entry.blocks[0]["text"][:2] for entry in results] == ["W1", "W2", "W3"]
    assert reply.text.count("is on its way") == 3


def test_remembers_across_sessions_and_tells_of_an_edit_in_the_very_next_call(build: Build) -> None:
    agent = build(student=False)
    agent.invoke("Hello there!", user="u1", session="s1")
    agent.memory.profile("u1").set("name", "Ann", source="user")
    assert agent.invoke("Hello again!", user="u1", session="s1").text == "The flagship greets Ann."
    assert agent.invoke("Hello!", user="u1", session="s2").text == "The flagship greets Ann."
    assert agent.invoke("Hello!", user="u2", session="s3").text == "The flagship greets you."


def test_an_edit_moves_no_earlier_byte_and_the_cache_pays(build: Build) -> None:
    agent = build(student=False)
    agent.invoke("Hello there!", user="u1", session="s1")
    agent.memory.profile("u1").set("name", "Ann")
    calls = agent.invoke("Hello again!", user="u1", session="s1").steps
    first = agent.memory.ledger.calls(session="s1")[0]
    assert calls[0].usage.read == first.usage.write
    assert calls[0].epoch == first.epoch


def test_another_users_first_call_reads_what_the_first_users_wrote(build: Build) -> None:
    agent = build(student=False)
    agent.invoke("Hello there!", user="u1", session="s1")
    call = agent.invoke("Hello there!", user="u2", session="s2").steps[0]
    assert call.usage.read > 1_500
    assert call.usage.write < 100


def test_the_ledger_agrees_with_the_vendors_bills(build: Build, server: Emulator) -> None:
    agent = build()
    for text in ("Hello there!", "Where is my order W1?", "And my order W2?"):
        agent.invoke(text, user="u1", session="s1")
    billed = [bill for bill in server.bills if bill.api == "messages"]
    ours = [call for call in agent.memory.ledger.calls() if call.tier == "flagship"]
    assert [call.usage for call in ours] == [bill.usage for bill in billed]
    assert [call.cost for call in ours] == [bill.cost_micro for bill in billed]


def test_blocks_spam_without_a_model_call(build: Build, server: Emulator) -> None:
    agent = build()
    spam = "CONGRATULATIONS! You have WON a £1000 prize. Call 09061701461 now to claim!!"
    reply = agent.invoke(spam, user="u9", session="s9")
    assert reply.blocked == "spam"
    assert reply.text
    assert server.bills == []
    assert agent.memory.history("s9").entries() == []
    assert [r.kind for r in agent.memory.history("s9").records()] == ["blocked", "verdict", "end"]


def test_streams_the_draft_retracts_it_and_ends_with_the_reply(build: Build) -> None:
    parts = list(build().stream("Where is my order W7?", user="u1", session="s1"))
    kinds = [part.kind for part in parts]
    assert kinds[:3] == ["route", "retract", "route"]
    assert kinds[-1] == "reply"
    assert "call" in kinds
    assert "result" in kinds
    text = "".join(part.text for part in parts if part.kind == "text")
    assert text == "I look it up." + parts[-1].value.text


def test_asynchronous_turns_do_what_synchronous_ones_do(build: Build) -> None:
    async def run() -> tuple[Any, list[Any]]:
        agent = build()
        reply = await agent.ainvoke("Where is my order W7?", user="u1", session="s1")
        parts = [p async for p in agent.astream("Hello there!", user="u1", session="s1")]
        return reply, parts

    reply, parts = asyncio.run(run())
    sync = build().invoke("Where is my order W7?", user="u1", session="s1")
    assert reply.text == sync.text
    assert [c.outcome for c in reply.steps] == [c.outcome for c in sync.steps]
    assert parts[-1].value.text == "The student says hello."


def test_the_graph_is_a_plain_langgraph_graph(build: Build) -> None:
    agent = build(student=False)
    config: Any = {"configurable": {"thread_id": "t1", "user": "u1"}}
    given = {"messages": [HumanMessage("Where is my order W4?")]}
    state = agent.graph.invoke(given, config)
    assert isinstance(state["messages"][-1], AIMessage)
    assert state["messages"][-1].text == "It says: W4 of u1 is on its way"
    assert agent.memory.sessions(user="u1") == ["t1"]
    drawn = agent.graph.get_graph().draw_mermaid()
    for node in ("admit", "recall", "route", "act", "tools", "commit"):
        assert f"{node}({node})" in drawn


def test_any_langchain_chat_model_is_a_tier() -> None:
    agent = Agent("a", "Answer.", tiers=[Tier("only", FakeListChatModel(responses=["Fine."]))])
    reply = agent.invoke("How are you today?")
    assert reply.text == "Fine."
    assert reply.cost.micro is None
    assert str(reply.cost) == "$?"


def test_a_developers_check_refuses_a_draft(build: Build) -> None:
    def no_hello(draft: Draft, context: CheckContext) -> str | None:
        return "it says hello" if "hello" in draft.text else None

    reply = build(checks=[no_hello]).invoke("Good morning!", user="u1", session="s1")
    assert [(c.tier, c.outcome) for c in reply.steps] == [
        ("student", "check:no_hello"),
        ("flagship", "ok"),
    ]


def test_the_top_tier_is_told_why_and_may_answer_again(server: Emulator) -> None:
    told: list[str] = []

    def stubborn(request: Request) -> Answer:
        told.append(request.user_text)
        return Answer("Right." if "was not used" in request.user_text else "Wrong.")

    with emulator(stubborn) as other:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=other.url)]
        agent = Agent(
            "a", POLICY, tiers=tiers, checks=[lambda d, c: "no" if "Wrong" in d.text else None]
        )
        reply = agent.invoke("How are you today?", session="s1")
        assert reply.text == "Right."
        assert len(told) == 2
        entries = agent.memory.history("s1").entries()
        assert [entry.kind for entry in entries] == ["user", "assistant"]
        agent.memory.verify()


def test_a_turn_that_no_tier_can_answer_fails_as_a_whole() -> None:
    with emulator(lambda request: Answer("")) as other:
        tiers = [Tier("only", "anthropic:claude-opus-5-5", base_url=other.url)]
        agent = Agent("a", POLICY, tiers=tiers)
        with pytest.raises(TurnError, match=r"no tier could answer.*empty"):
            agent.invoke("How are you today?", session="s1")
        assert [r.kind for r in agent.memory.history("s1").records()] == ["user", "end"]
        kind = Agent("b", POLICY, tiers=tiers, fallback="Please call us.")
        assert kind.invoke("How are you today?", session="s2").text == "Please call us."


def test_a_failing_tier_is_never_text_in_the_answer() -> None:
    def broken(request: Request) -> Answer:
        return Answer(fault=Fault("status", status=401))

    brains = {"claude-haiku-4-5": broken, "claude-opus-5-5": flagship}
    with emulator(brains) as other:
        tiers = [
            Tier("small", "anthropic:claude-haiku-4-5", base_url=other.url),
            Tier("large", "anthropic:claude-opus-5-5", base_url=other.url),
        ]
        reply = Agent("a", POLICY, tiers=tiers).invoke("Hello there!", session="s1")
        assert reply.text == "The flagship greets you."
        assert [c.outcome for c in reply.steps] == ["error:auth", "ok"]


def test_a_model_that_keeps_failing_is_left_alone() -> None:
    asked: list[str] = []

    def broken(request: Request) -> Answer:
        asked.append(request.model)
        return Answer(fault=Fault("status", status=401))

    with emulator({"claude-haiku-4-5": broken, "claude-opus-5-5": flagship}) as other:
        tiers = [
            Tier("small", "anthropic:claude-haiku-4-5", base_url=other.url),
            Tier("large", "anthropic:claude-opus-5-5", base_url=other.url),
        ]
        agent = Agent("a", POLICY, tiers=tiers)
        replies = [agent.invoke("Hello there!", session=f"s{n}") for n in range(5)]
    assert {reply.text for reply in replies} == {"The flagship greets you."}
    assert len(asked) == 3
    assert [call.tier for call in replies[-1].steps] == ["large"]


def test_a_budget_stops_before_the_call_that_would_exceed_it(
    build: Build, server: Emulator
) -> None:
    agent = build(student=False, budget=Budget(session_usd=0.02))
    agent.invoke("Hello there!", user="u1", session="s1")
    with pytest.raises(BudgetError, match="the session has spent"):
        _ask_forever(agent)
    assert len(server.bills) == len(agent.memory.ledger.calls())
    assert agent.memory.ledger.spent("s1") <= 20_000


def _ask_forever(agent: Agent) -> None:
    for _ in range(50):
        agent.invoke("Tell me more about it, at length. " * 40, user="u1", session="s1")


def test_feedback_is_kept_beside_the_turn(build: Build) -> None:
    agent = build(student=False)
    reply = agent.invoke("Hello there!", user="u1", session="s1")
    reply.feedback(1.0, "solved", "quick")
    with pytest.raises(InputError, match="score=2"):
        reply.feedback(2)
    (session,) = agent.memory.export("u1")["sessions"]
    (said,) = session["feedback"]
    assert (said["score"], said["label"], said["comment"]) == (1.0, "solved", "quick")


def test_two_turns_of_one_session_follow_each_other(build: Build) -> None:
    agent = build(student=False)
    replies: list[str] = []

    def one(number: int) -> None:
        replies.append(agent.invoke(f"Where is order W{number}?", user="u1", session="s1").text)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 6
    kinds = [entry.kind for entry in agent.memory.history("s1").entries()]
    assert kinds == ["user", "assistant", "tool", "assistant"] * 6
    agent.memory.verify()


def test_the_opening_is_said_once(build: Build) -> None:
    agent = build(student=False, opening="Welcome to the shop!")
    agent.invoke("Hello there!", user="u1", session="s1")
    agent.invoke("Hello again!", user="u1", session="s1")
    texts = [e.blocks[0]["text"] for e in agent.memory.history("s1").entries()]
    assert texts.count("Welcome to the shop!") == 1
    assert texts[0] == "Welcome to the shop!"


def test_the_tail_is_sent_last_and_moves_nothing(build: Build) -> None:
    times = iter(range(100))
    agent = build(student=False, tail=lambda: f"It is {next(times)} o'clock.")
    agent.invoke("Hello there!", user="u1", session="s1")
    call = agent.invoke("Hello again!", user="u1", session="s1").steps[0]
    first = agent.memory.ledger.calls(session="s1")[0]
    assert call.usage.read == first.usage.write
    assert first.tail == "It is 0 o'clock."
    agent.memory.verify()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the message is empty"),
        ("  \n ", "the message is empty"),
        ("a" * 1_000_001, "the message has 1,000,001 characters"),
        (42, "a message is text, not int"),
    ],
)
def test_refuses_messages_that_are_none(
    build: Build, server: Emulator, text: Any, message: str
) -> None:
    agent = build()
    with pytest.raises(InputError, match=message) as caught:
        agent.invoke(text, session="s1")
    assert caught.value.hint
    assert agent.memory.sessions() == []
    assert server.bills == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiers": []}, "has no tier"),
        ({"tiers": "flagship"}, "has no tier"),
        ({"instructions": "  "}, "instructions are empty"),
        ({"memory": "mysql://x"}, "not supported"),
        ({"memory": "sqlite:////no/such/folder/x.db"}, "cannot be opened"),
        ({"router": "/no/such/router"}, "router"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"tools": [lambda x: x]}, "tool"),
    ],
)
def test_refuses_wrong_arguments_with_a_hint(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "name": "a",
        "instructions": "Answer.",
        "tiers": [Tier("only", FakeListChatModel(responses=["Fine."]))],
        **change,
    }
    with pytest.raises(Exception, match=message) as caught:
        Agent(**arguments)
    assert getattr(caught.value, "hint", "")


def test_refuses_tiers_of_one_name() -> None:
    tier = Tier("only", FakeListChatModel(responses=["Fine."]))
    with pytest.raises(ConfigError, match="two tiers are called 'only'"):
        Agent("a", "Answer.", tiers=[tier, tier])


def test_refuses_a_model_string_that_names_none() -> None:
    with pytest.raises(ConfigError, match="'gpt-9' names no model"):
        Tier("only", "gpt-9")


def test_warns_of_a_model_whose_cache_rules_nobody_knows(
    server: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("anthropic:claude-opus-5-5", "anthropic:claude-quill-9"):
        Agent("a", "Answer.", tiers=[Tier("only", name, base_url=server.url)])
    assert [record.getMessage() for record in caplog.records] == [
        "how anthropic:claude-quill-9 caches prompts is not known: cautious defaults hold"
    ]


def test_names_the_variable_of_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigError) as caught:
        Agent("a", "Answer.", tiers=[Tier("only", "anthropic:claude-opus-5-5")])
    assert "ANTHROPIC_API_KEY" in f"{caught.value} {caught.value.hint}"


class Astray(Router):
    """A router of one's own, with a slip."""

    def route(self, step: Step, tiers: Sequence[TierFacts]) -> Decision:
        return Decision("studnet", "rules", "a slip", "simple")


def test_names_the_tiers_when_a_router_names_none(build: Build) -> None:
    agent = build(router=Astray(Rules()))
    with pytest.raises(ConfigError, match="'studnet' is not defined") as caught:
        agent.invoke("Hello there!", session="s1")
    assert caught.value.hint == "tiers: student, flagship"
    assert [r.kind for r in agent.memory.history("s1").records()] == ["user", "end"]


def test_refuses_a_tool_for_a_tier_that_there_is_not(build: Build) -> None:
    astray = declare(order_status, tiers={"studnet"})
    with pytest.raises(ConfigError, match="'studnet', which is not defined"):
        build(tools=[astray])


def test_refuses_a_file_that_is_no_database(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database " * 200)
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        build(memory=f"sqlite:///{path}")
    assert caught.value.hint
    assert path.read_bytes() == before


def test_tenants_never_mix(build: Build, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one, two = (build(student=False, memory=Memory(url, tenant=name)) for name in ("one", "two"))
    one.memory.profile("u1").set("name", "Ann")
    one.invoke("Hello there!", user="u1", session="s1")
    assert two.invoke("Hello there!", user="u1", session="s1").text == "The flagship greets you."
    assert len(one.memory.ledger.calls()) == len(two.memory.ledger.calls()) == 1
    with pytest.raises(InputError, match="does not belong"):
        one.invoke("Hello there!", user="u2", session="s1")
