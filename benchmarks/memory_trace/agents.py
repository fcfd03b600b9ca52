"""The agents that run the trace; each gets the same instructions, tools, facts and model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agentmesh import Agent, Tier
from agentmesh.emulator import Bill
from agentmesh.memory import Memory
from agentmesh.memory.compaction import Compaction
from agentmesh.testing import emulator
from agentmesh.tools import tool
from benchmarks.memory_trace import trace
from benchmarks.memory_trace.trace import MODEL, POLICY, Clock, Gaps

IDLE_STEP_S = 20.0


class Run(NamedTuple):
    """What a trace cost: requests, input tokens, the share of them read, and micro-dollars."""

    name: str
    calls: int
    tokens: int
    read: float
    micro: int
    detail: str = ""


def look_up(number: int) -> str:
    """Look up a record.

    Args:
        number: The record's number.
    """
    return trace.record(number)


def ours(name: str, gaps: Gaps, compaction: Compaction | None, *, idle: bool = False) -> Run:
    """Run the trace on an agent of ours; `idle` lets it act while the user is away."""
    clock = Clock()
    with emulator(trace.brain(clock), clock=clock) as server:
        agent = Agent(
            "desk",
            POLICY,
            tiers=[Tier("only", f"anthropic:{MODEL}", base_url=server.url)],
            tools=[tool(look_up)],
            memory=Memory(clock=clock),
            compaction=compaction,
        )
        profile = agent.memory.profile("u1")
        told: dict[str, str] = {}
        done: list[str] = []
        for turn, text in trace.turns():
            for key, value in trace.facts(turn).items():
                if told.get(key) != value:
                    profile.set(key, value)
                    told[key] = value
            agent.invoke(text, user="u1", session="s1")
            away = gaps.after(turn)
            while idle and away > IDLE_STEP_S:
                clock.now += IDLE_STEP_S
                away -= IDLE_STEP_S
                done += [action.kind for action in agent.idle()]
            clock.now += away
        agent.memory.verify()
        ledger = sum(call.cost or 0 for call in agent.memory.ledger.calls())
        while_idle = "".join(f", {done.count(kind)} {kind}" for kind in sorted(set(done)))
        run = summed(name, server.bills, f"{clock.digests} digests{while_idle}")
        if run.micro != ledger:
            raise RuntimeError(f"the ledger says {ledger}, the bills {run.micro}")
        return run


def langchain(name: str, gaps: Gaps, *, account: int | None, trigger: int = 40_000) -> Run:
    """Run the trace on LangChain's own agent with its own middleware.

    `account` is how many of the newest tokens it summarises of what it drops: 4,000 by default,
    in which no message of a user stands here, so that it keeps no account at all; None for all.
    """
    from langchain.agents import create_agent
    from langchain.agents.middleware import SummarizationMiddleware, dynamic_prompt
    from langchain_anthropic import ChatAnthropic
    from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
    from langchain_core.tools import StructuredTool
    from langgraph.checkpoint.memory import InMemorySaver

    clock = Clock()
    known: dict[str, str] = {}

    @dynamic_prompt
    def with_memory(request: Any) -> str:
        lines = "\n".join(f"- {key}: {value}" for key, value in sorted(known.items()))
        return f"{POLICY}\n\nWhat you know about this user:\n{lines}"

    with emulator(trace.brain(clock), clock=clock) as server:
        model: Any = ChatAnthropic(
            model_name=MODEL, base_url=server.url, api_key="none", max_tokens=4096, max_retries=0
        )
        middleware: list[Any] = [
            SummarizationMiddleware(
                model,
                trigger=("tokens", trigger),
                keep=("messages", 20),
                trim_tokens_to_summarize=account,
            ),
            AnthropicPromptCachingMiddleware(),
            with_memory,
        ]
        agent = create_agent(
            model,
            [StructuredTool.from_function(look_up, parse_docstring=True)],
            middleware=middleware,
            checkpointer=InMemorySaver(),
        )
        config: Any = {"configurable": {"thread_id": "s1"}, "recursion_limit": 60}
        for turn, text in trace.turns():
            known |= trace.facts(turn)
            agent.invoke({"messages": [{"role": "user", "content": text}]}, config)
            clock.now += gaps.after(turn)
        return summed(name, server.bills, f"{clock.digests} digests")


def summed(name: str, bills: list[Bill], detail: str = "") -> Run:
    """Return what the vendor charged; an error or an unknown price ends the benchmark."""
    if bad := [bill for bill in bills if bill.status != 200 or bill.cost_micro is None]:
        raise RuntimeError(f"{name}: {len(bad)} requests failed, the first with {bad[0]}")
    tokens = sum(bill.usage.input for bill in bills)
    read = sum(bill.usage.read for bill in bills) / tokens
    return Run(name, len(bills), tokens, read, sum(bill.cost_micro or 0 for bill in bills), detail)


Case = Callable[[], Run]
