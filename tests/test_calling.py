"""Which model answers a step: siblings, circuits, rates and latency, and what the ledger tells."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError, TurnError
from agentmesh.memory import Memory
from agentmesh.routing import Rate, StepLimits
from agentmesh.status import model_status
from agentmesh.testing import Answer, Brain, Emulator, Fault, Request, emulator

SMALL, LARGE, OTHER = "claude-haiku-4-5", "claude-opus-5-5", "claude-opus-4-8"
DOWN = Answer(fault=Fault("status", status=529))
NO_KEY = Answer(fault=Fault("status", status=401))


class Vendor:
    """Models whose answers can be changed while an agent runs."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.says: dict[str, Brain | Answer] = {}

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        self.sent[request.model] += 1
        says = self.says.get(request.model, Answer(f"{request.model} is here."))
        return says if isinstance(says, Answer) else says(request)


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def server(vendor: Vendor) -> Iterator[Emulator]:
    with emulator(vendor) as running:
        yield running


def tier(server: Emulator, name: str, model: str, **more: Any) -> Tier:
    return Tier(name, f"anthropic:{model}", base_url=server.url, **more)


def test_a_sibling_answers_before_the_step_goes_up(server: Emulator, vendor: Vendor) -> None:
    tiers = [
        tier(server, "small", SMALL, siblings=["anthropic:claude-sonnet-5-5"]),
        tier(server, "large", LARGE),
    ]
    vendor.says[SMALL] = NO_KEY
    reply = Agent("a", "Answer.", tiers=tiers).invoke("Hello there!", session="s1")
    assert reply.text == "claude-sonnet-5-5 is here."
    rows = [(call.tier, call.model, call.outcome) for call in reply.steps]
    assert rows == [
        ("small", f"anthropic:{SMALL}", "error:auth"),
        ("small", "anthropic:claude-sonnet-5-5", "ok"),
    ]
    assert all(call.cost is not None for call in reply.steps)


def test_siblings_share_their_tiers_three_requests(server: Emulator, vendor: Vendor) -> None:
    only = tier(server, "only", LARGE, siblings=[f"anthropic:{OTHER}"])
    vendor.says = {LARGE: DOWN, OTHER: DOWN}
    with pytest.raises(TurnError, match="529"):
        Agent("a", "Answer.", tiers=[only]).invoke("Hello there!", session="s1")
    assert vendor.sent == {LARGE: 2, OTHER: 1}


@pytest.mark.parametrize(
    ("siblings", "message"),
    [
        ("anthropic:claude-opus-4-8", "is no list"),
        (["openai:gpt-4.1"], "needs an address of its own"),
        (["anthropic:"], "names no model"),
    ],
)
def test_refuses_siblings_that_are_none(server: Emulator, siblings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tier(server, "large", LARGE, siblings=siblings)


def test_three_tiers_send_six_requests_and_the_top_one_is_among_them(
    server: Emulator, vendor: Vendor
) -> None:
    names = [SMALL, "claude-sonnet-5-5", LARGE]
    vendor.says = dict.fromkeys(names, Answer(fault=Fault("reset", after=0)))
    agent = Agent("a", "Answer.", tiers=[tier(server, n, n) for n in names], deadline_s=20)
    with pytest.raises(TurnError):
        agent.invoke("Hello there!", session="s1")
    sent = Counter(call.tier for call in agent.memory.ledger.calls())
    assert sent.total() <= 6
    assert max(sent.values()) <= 3
    assert sent[LARGE] >= 1


def test_the_only_model_left_is_probed_at_once_and_others_wait_for_that_probe(
    server: Emulator, vendor: Vendor
) -> None:
    vendor.says[LARGE] = NO_KEY
    agent = Agent("a", "Answer.", tiers=[tier(server, "large", LARGE)], deadline_s=20)
    for n in range(3):
        with pytest.raises(TurnError, match="401"):
            agent.invoke("Hello there!", session=f"s{n}")
    began, release = threading.Event(), threading.Event()

    async def slow(request: Request) -> Answer:
        began.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        return Answer("Back again.")

    vendor.says[LARGE], vendor.sent = slow, Counter()
    texts: list[str] = []

    def ask(session: str) -> None:
        texts.append(agent.invoke("Hello there!", session=session).text)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    time.sleep(0.3)
    assert vendor.sent[LARGE] == 1
    release.set()
    for thread in threads:
        thread.join(15)
    assert texts == ["Back again."] * 3


def test_a_full_minute_sends_the_step_up_and_the_top_waits_no_longer_than_the_deadline(
    server: Emulator, vendor: Vendor
) -> None:
    rate = Rate(requests=1)
    tiers = [tier(server, "small", SMALL, rate=rate), tier(server, "large", LARGE, rate=rate)]
    agent = Agent("a", "Answer.", tiers=tiers, deadline_s=1.0)
    assert agent.invoke("Hello there!", session="s1").steps[-1].tier == "small"
    assert agent.invoke("Hello there!", session="s2").steps[-1].tier == "large"
    began = time.monotonic()
    with pytest.raises(TurnError, match="rate limit"):
        agent.invoke("Hello there!", session="s3")
    assert time.monotonic() - began < 5
    assert vendor.sent == {SMALL: 1, LARGE: 1}


def test_processes_on_one_database_share_a_rate(
    server: Emulator, vendor: Vendor, tmp_path: Path
) -> None:
    rate = Rate(requests=2)

    def answered(session: str) -> str:
        """Answer as a process of its own would: nothing is shared but the database."""
        tiers = [tier(server, "small", SMALL, rate=rate), tier(server, "large", LARGE)]
        agent = Agent("a", "Answer.", tiers=tiers, memory=f"sqlite:///{tmp_path / 'mesh.db'}")
        with agent:
            return agent.invoke("Hello there!", session=session).steps[-1].tier

    assert [answered(f"s{n}") for n in range(3)] == ["small", "small", "large"]
    assert vendor.sent == {SMALL: 2, LARGE: 1}


def test_a_tier_that_has_become_slow_is_left_out(server: Emulator, vendor: Vendor) -> None:
    slow = tier(server, "small", SMALL, rate=Rate(latency_s=0.0001))
    agent = Agent("a", "Answer.", tiers=[slow, tier(server, "large", LARGE)])
    tiers = [agent.invoke("Hello!", session=f"s{n}").steps[-1].tier for n in range(5)]
    assert tiers == ["small"] * 3 + ["large"] * 2


def test_another_process_can_say_how_every_model_is_doing(
    server: Emulator, vendor: Vendor, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'mesh.db'}"
    tiers = [tier(server, "small", SMALL), tier(server, "large", LARGE)]
    vendor.says[SMALL] = NO_KEY
    agent = Agent("a", "Answer.", tiers=tiers, memory=url)
    for n in range(3):
        agent.invoke("Hello there!", session=f"s{n}")
    large, small = model_status(Memory(url))
    assert (small.tier, small.model) == ("small", f"anthropic:{SMALL}")
    assert (small.health.state, small.health.failures) == ("open", 3)
    assert 0 < small.health.retry_in_s <= 30
    assert (small.errors, small.answered, small.median_s) == ({"auth": 3}, 0, None)
    assert (large.answered, large.escalated, large.refused) == (3, 3, 0)
    assert (large.health.state, large.requests_per_minute) == ("closed", 3)
    assert large.tokens_per_minute > 0
    assert large.median_s is not None
    assert large.p95_s is not None
    assert 0 < large.median_s <= large.p95_s
    later = model_status(Memory(url), now=time.time() + 31)
    assert [one.health.retry_in_s for one in later] == [0, 0]
    # and an agent that begins now knows it as well
    vendor.sent = Counter()
    Agent("a", "Answer.", tiers=tiers, memory=url).invoke("Hello there!", session="s9")
    assert vendor.sent == {LARGE: 1}
    with pytest.raises(ConfigError, match="since_s"):
        model_status(Memory(url), since_s=0)


def test_a_steps_limits_are_those_of_one_step() -> None:
    limits = StepLimits(requests=2, per_tier=1)
    limits.take("small")
    assert (limits.left("small"), limits.left("large")) == (0, 1)
    limits.take("large")
    assert limits.left("other") == 0
