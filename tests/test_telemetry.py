"""OpenTelemetry: the spans and metrics of real turns, and nothing where it was not asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentmesh import Agent, Price, Tier
from agentmesh.errors import MissingExtraError, TurnError
from agentmesh.memory.compaction import Compaction
from agentmesh.telemetry import Telemetry
from agentmesh.testing import Answer, Emulator, Fault, Request, emulator
from agentmesh.tools import tool

POLICY = "You are the desk of a shop. " * 250


@tool
def order_status(order: str) -> str:
    """Look up an order.

    Args:
        order: The order's number.
    """
    return f"{order} is on its way"


def desk(request: Request) -> Answer:
    if request.results:
        return Answer("It is on its way.")
    if "order" in request.user_text:
        return Answer("I look it up.", [("order_status", {"order": "W1"})])
    return Answer("Hello.")


class Recorded:
    """What the in-memory exporters hold."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._tracers = TracerProvider()
        self._tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(self._tracers, self._meters)

    def spans(self, operation: str = "") -> list[ReadableSpan]:
        done = self._spans.get_finished_spans()
        named = [s for s in done if (s.attributes or {})["gen_ai.operation.name"] == operation]
        return named if operation else list(done)

    def metric(self, name: str, **only: Any) -> float:
        total = 0.0
        told = self._reader.get_metrics_data()
        for resource in told.resource_metrics if told else ():
            for scope in resource.scope_metrics:
                for metric in (m for m in scope.metrics if m.name == name):
                    for point in metric.data.data_points:
                        about = point.attributes or {}
                        if all(about.get(key) == value for key, value in only.items()):
                            total += float(
                                getattr(point, "sum", None) or getattr(point, "value", 0)
                            )
        return total

    def close(self) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    found = Recorded()
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator(desk) as running:
        yield running


def make(server: Emulator, recorded: Recorded, **more: Any) -> Agent:
    tier = Tier("only", "anthropic:claude-opus-5-5", base_url=server.url)
    given: dict[str, Any] = {"tiers": [tier], "tools": [order_status], **more}
    return Agent("desk", POLICY, telemetry=recorded.telemetry, **given)


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
def test_a_turn_is_a_tree_of_spans_with_its_tokens_and_its_cost(
    server: Emulator, recorded: Recorded, how: str
) -> None:
    agent = make(server, recorded)
    text = "Where is my order W1?"
    if how == "invoke":
        agent.invoke(text, session="s1")
    elif how == "ainvoke":
        asyncio.run(agent.ainvoke(text, session="s1"))
    elif how == "stream":
        list(agent.stream(text, session="s1"))
    else:

        async def run() -> None:
            async for _ in agent.astream(text, session="s1"):
                pass

        asyncio.run(run())
    [turn], chats = recorded.spans("invoke_agent"), recorded.spans("chat")
    [run_tool] = recorded.spans("execute_tool")
    assert turn.name == "invoke_agent desk"
    assert dict(turn.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "desk",
        "gen_ai.conversation.id": "s1",
    }
    assert run_tool.name == "execute_tool order_status"
    for span in (*chats, run_tool):
        assert span.parent is not None
        assert span.parent.span_id == turn.context.span_id
        assert span.status.status_code is StatusCode.UNSET
    calls = agent.memory.ledger.calls()
    assert len(chats) == len(calls) == len(server.bills) == 2
    for span, call in zip(chats, calls, strict=True):
        told = dict(span.attributes or {})
        assert span.name == "chat claude-opus-5-5"
        assert told["gen_ai.provider.name"] == "anthropic"
        assert told["gen_ai.usage.input_tokens"] == call.usage.input
        assert told["gen_ai.usage.output_tokens"] == call.usage.output
        assert told["gen_ai.usage.cache_read.input_tokens"] == call.usage.read
        assert told["gen_ai.usage.cache_write.input_tokens"] == call.usage.write
        assert told["gen_ai.usage.cost.amount"] == (call.cost or 0) / 1e6
        assert told["gen_ai.usage.cost.currency"] == "USD"
        assert told["gen_ai.conversation.id"] == "s1"
        assert str(told["gen_ai.response.id"]).startswith("msg_")
    assert [dict(s.attributes or {})["gen_ai.response.finish_reasons"] for s in chats] == [
        ("tools",),
        ("end",),
    ]
    said = str([dict(span.attributes or {}) for span in recorded.spans()])
    assert "on its way" not in said
    assert "W1" not in said


def test_metrics_add_up_to_the_ledger(server: Emulator, recorded: Recorded) -> None:
    agent = make(server, recorded)
    for number in range(3):
        agent.invoke("Where is my order W1?", session=f"s{number}")
    calls = agent.memory.ledger.calls()
    tokens, kind = "gen_ai.client.token.usage", "gen_ai.token.type"
    assert recorded.metric(tokens, **{kind: "input"}) == sum(c.usage.input for c in calls)
    assert recorded.metric(tokens, **{kind: "output"}) == sum(c.usage.output for c in calls)
    cache, kind = "agentmesh.client.cache.tokens", "agentmesh.cache.kind"
    assert recorded.metric(cache, **{kind: "read"}) == sum(c.usage.read for c in calls)
    assert recorded.metric(cache, **{kind: "write"}) == sum(c.usage.write for c in calls)
    spent = sum(call.cost or 0 for call in calls) / 1e6
    assert recorded.metric("agentmesh.client.cost") == pytest.approx(spent)
    for name in ("client.operation", "invoke_agent", "execute_tool"):
        assert recorded.metric(f"gen_ai.{name}.duration") > 0


def test_the_first_token_of_a_stream_is_timed(server: Emulator, recorded: Recorded) -> None:
    list(make(server, recorded).stream("Hello there!", session="s1"))
    assert recorded.metric("gen_ai.client.operation.time_to_first_chunk") > 0


def test_a_failed_request_and_a_failed_turn_are_errors(recorded: Recorded) -> None:
    with emulator(lambda request: Answer(fault=Fault("status", status=401))) as server:
        agent = make(server, recorded)
        with pytest.raises(TurnError):
            agent.invoke("Hello there!", session="s1")
    [chat], [turn] = recorded.spans("chat"), recorded.spans("invoke_agent")
    assert chat.status.status_code is turn.status.status_code is StatusCode.ERROR
    assert dict(chat.attributes or {})["error.type"] == "auth"
    assert dict(turn.attributes or {})["error.type"] == "TurnError"
    assert "gen_ai.usage.cost.amount" not in dict(chat.attributes or {})


def test_an_agent_inside_anothers_tool_is_counted_once_and_nested(recorded: Recorded) -> None:
    colleagues: list[Agent] = []

    @tool
    def ask_colleague(order: str) -> str:
        """Ask a colleague."""
        return colleagues[0].invoke("Hello there!", session="inner").text

    def lead(request: Request) -> Answer:
        if request.model == "inner":
            return Answer("Hello.")
        if request.results:
            return Answer("Done.")
        return Answer("I ask.", [("ask_colleague", {"order": "W1"})])

    with emulator(lead) as other:
        url, price = other.openai_url, Price("0.05", "0.20")
        tier = Tier("small", "openai-compatible:inner", base_url=url, price=price)
        colleagues.append(make(other, recorded, tiers=[tier], tools=[]))
        outer = make(other, recorded, tools=[ask_colleague])
        outer.invoke("Hello there!", session="outer")
    assert len(recorded.spans("chat")) == 3
    first, second = recorded.spans("invoke_agent")
    sessions = [dict(s.attributes or {})["gen_ai.conversation.id"] for s in (first, second)]
    assert sessions == ["inner", "outer"]
    [asked] = recorded.spans("execute_tool")
    assert first.parent is not None
    assert first.parent.span_id == asked.context.span_id
    assert {s.context.trace_id for s in recorded.spans()} == {second.context.trace_id}


def test_a_refused_draft_says_so_on_its_own_span(recorded: Recorded) -> None:
    def desk(request: Request) -> Answer:
        small = request.model == "small"
        return Answer("", [("no_such_tool", {})]) if small else Answer("Hello, all is well.")

    with emulator(desk) as other:
        url, price = other.openai_url, Price("0.05", "0.20")
        small = Tier("small", "openai-compatible:small", base_url=url, price=price)
        large = Tier("large", "anthropic:claude-opus-5-5", base_url=other.url)
        agent = make(other, recorded, tiers=[small, large], tools=[])
        agent.invoke("Hello there!", session="s1")
    refused, accepted = (dict(span.attributes or {}) for span in recorded.spans("chat"))
    assert (refused["agentmesh.draft.outcome"], accepted["agentmesh.draft.outcome"]) == (
        "refused",
        "accepted",
    )
    [first, _] = agent.memory.ledger.calls()
    assert first.outcome == f"check:{refused['agentmesh.draft.check']}"
    assert "agentmesh.draft.check" not in accepted
    assert [span["agentmesh.call.tier"] for span in (refused, accepted)] == ["small", "large"]
    assert recorded.metric("agentmesh.drafts.refused") == 1
    one, two = recorded.spans("chat")
    assert one.end_time is not None
    assert two.start_time is not None
    assert one.end_time <= two.start_time


def test_spans_and_metrics_tell_what_a_call_was_for(server: Emulator, recorded: Recorded) -> None:
    compaction = Compaction(keep_turns=1, keep_tokens=100, digest_tokens=50, max_tokens=2_600)
    agent = make(server, recorded, compaction=compaction)
    while not any(call.purpose == "digest" for call in agent.memory.ledger.calls()):
        agent.invoke("Tell me more about it, at length. " * 40, session="s1")
    told = [dict(span.attributes or {}) for span in recorded.spans("chat")]
    calls = agent.memory.ledger.calls()
    assert [span["agentmesh.call.purpose"] for span in told] == [call.purpose for call in calls]
    assert {span["agentmesh.call.tier"] for span in told} == {"only"}
    digests = recorded.metric("agentmesh.client.cost", **{"agentmesh.call.purpose": "digest"})
    assert digests == pytest.approx(
        sum(call.cost or 0 for call in calls if call.purpose == "digest") / 1e6
    )


def test_without_the_package_the_hint_is_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match="'otel'") as caught:
        Telemetry()
    assert caught.value.hint == "pip install 'agentmesh-langgraph[otel]'"


def test_nothing_is_loaded_or_sent_unless_it_is_configured(server: Emulator) -> None:
    """The SDK itself may be there already: langsmith, which langchain brings, loads what it finds."""
    code = (
        "import sys\n"
        "from agentmesh import Agent, Tier\n"
        f"tier = Tier('only', 'anthropic:claude-opus-5-5', base_url={server.url!r})\n"
        "print(Agent('a', 'Answer.', tiers=[tier]).invoke('Hello there!').text)\n"
        "print('agentmesh.telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Hello.", "False"]
