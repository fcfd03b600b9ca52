"""Many real calls with faults on the way, and the ledger's rows laid beside the vendor's bills."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh import Agent, Price, Tier
from agentmesh.economy import PriceBook, Usage
from agentmesh.emulator import Bill
from agentmesh.memory import Call, Memory
from agentmesh.routing import Decision, Router, Rules
from agentmesh.testing import Answer, Emulator, Fault, Request
from agentmesh.tools import tool

POLICY = "You are the desk of a shop, and you answer in one sentence. " * 120
STUDENT = "openai-compatible:desk"
PRICE = Price("0.05", "0.20", "0.01")

UNTOLD = frozenset({"cut", "error", "reset", "untold"})
"""Faults after which the vendor bills a request whose usage its response never told."""

FAULTS: tuple[tuple[float, Callable[[], Fault]], ...] = (
    (0.02, lambda: Fault("status", status=529, retry_after_s=0.01)),
    (0.02, lambda: Fault("status", status=429, retry_after_s=0.01)),
    (0.01, lambda: Fault("status", status=500, retry_after_s=0.01)),
    (0.02, lambda: Fault("cut")),
    (0.01, lambda: Fault("cut", after=1)),
    (0.02, lambda: Fault("error", status=529)),
    (0.01, lambda: Fault("reset")),
    (0.01, lambda: Fault("reset", after=0)),
    (0.01, lambda: Fault("drip", delay_s=0.002)),
    (0.01, lambda: Fault("untold")),
)


@tool
def order_status(order: str) -> str:
    """Look up an order.

    Args:
        order: The order's number.
    """
    return f"order {order} is on its way"


class Account(NamedTuple):
    """One key's calls of one model."""

    key: str
    model: str


@dataclass(frozen=True)
class Found:
    """How the two accounts compare; money in micro-dollars."""

    calls: int
    requests_billed: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    ledger_micro: int
    billed_micro: int
    rows_that_differ: int
    unknown_rows: int
    unknown_bills: int
    unknown_bills_micro: int
    unknown_bills_without_an_unknown_row: int
    unknown_rows_that_nobody_billed: int

    @property
    def agrees(self) -> bool:
        """Whether every known cost is the bill's, and every untold bill is marked unknown."""
        return (
            self.ledger_micro == self.billed_micro
            and not self.rows_that_differ
            and not self.unknown_bills_without_an_unknown_row
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON has it."""
        return {**asdict(self), "agrees": self.agrees}


class Brain:
    """Answers briefly, calls a tool now and then, and lets things go wrong at random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random: dict[str, random.Random] = {}

    def __call__(self, request: Request) -> Answer:
        chance = self._random.setdefault(request.key, random.Random(f"{self._seed} {request.key}"))
        fault = self._fault(chance.random())
        words = "word " * chance.randrange(1, 60)
        if request.model == "desk" and chance.random() < 0.1:
            return Answer("", [("no_such_tool", {})], fault=fault)  # a draft that is refused
        if request.results or "order" not in request.user_text:
            return Answer(words, reasoning="so " * chance.randrange(0, 9), fault=fault)
        return Answer(words, [("order_status", {"order": "W1"})], fault=fault)

    def _fault(self, at: float) -> Fault | None:
        for share, make in FAULTS:
            if at < share:
                return make()
            at -= share
        return None


class Mixed(Router):
    """Routes half of the turns to the first tier, half to the last."""

    def __init__(self) -> None:
        super().__init__(Rules())

    def route(self, step: Any, tiers: Any) -> Decision:
        chosen = tiers[0] if step.turn % 2 else tiers[-1]
        return Decision(chosen.name, "rules", "every other turn", "simple")


class Worker:
    """Turns of one API key, one after the other: its bills are in the order of its rows."""

    def __init__(self, number: int, seed: int, server: Emulator, memory: Memory) -> None:
        self.key = f"key-{number:04d}"
        self._random = random.Random(f"{seed} worker {number}")
        student = Tier(
            "student",
            STUDENT,
            base_url=server.openai_url,
            api_key=self.key,
            price=PRICE,
        )
        claude = Tier("claude", "anthropic:claude-opus-5-5", base_url=server.url, api_key=self.key)
        gpt = Tier("gpt", "openai:gpt-6.1-sol", base_url=server.openai_url, api_key=self.key)
        more: dict[str, Any] = {"memory": memory, "router": Mixed(), "fallback": "Later."}
        self._agents = [
            Agent(f"{self.key} {name}", POLICY, tiers=tiers, tools=[order_status], **more)
            for name, tiers in (("claude", [student, claude]), ("gpt", [student, gpt]))
        ]

    def turn(self) -> None:
        """Have one turn, synchronous or not, streamed or not."""
        chance = self._random
        agent = chance.choice(self._agents)
        text = chance.choice(["Hello there, can you help me?", "Where is my order W1?"])
        text += " Please." * chance.randrange(200)
        session = f"{agent.name} {chance.randrange(8)}"
        how = chance.random()
        if how < 0.45:
            agent.invoke(text, user=self.key, session=session)
        elif how < 0.95:
            list(agent.stream(text, user=self.key, session=session))
        else:
            asyncio.run(agent.ainvoke(text, user=self.key, session=session))


def compare(calls: int, *, seed: int = 1, workers: int = 4, database: Path | None = None) -> Found:
    """Make at least so many calls and return how the ledger and the bills compare."""
    book = PriceBook({STUDENT: PRICE})
    memory = Memory(f"sqlite:///{database}" if database else "sqlite://")
    with Emulator(Brain(seed), prices=book) as server:
        # Agents are made by one thread: schema libraries change the process's warning filters.
        crew = [Worker(number, seed, server, memory) for number in range(workers)]

        def work(worker: Worker) -> None:
            while len(server.bills) < calls:
                worker.turn()

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, crew))
        bills = list(server.bills)
    return _compared(memory.ledger.calls(), bills)


def _compared(rows: list[Call], bills: list[Bill]) -> Found:
    told: dict[Account, list[tuple[int | None, Usage]]] = defaultdict(list)
    known: dict[Account, list[tuple[int | None, Usage]]] = defaultdict(list)
    untold: Counter[Account] = Counter()
    unknown: Counter[Account] = Counter()
    for bill in bills:
        account = Account(bill.key, bill.model)
        if bill.status == 200 and _hidden(bill):
            untold[account] += 1
        else:
            told[account].append((bill.cost_micro, bill.usage))
    for row in rows:
        account = Account(row.user, row.model)
        if row.cost is None:
            unknown[account] += 1
        else:
            known[account].append((row.cost, row.usage))
    accounts = sorted({*told, *known})
    differ = 0
    for account in accounts:
        ours, theirs = known[account], told[account]
        differ += abs(len(ours) - len(theirs))
        differ += sum(a != b for a, b in zip(ours, theirs, strict=False))
    return Found(
        calls=len(rows),
        requests_billed=len(bills),
        outcomes=dict(sorted(Counter(row.outcome for row in rows).items())),
        faults=dict(sorted(Counter(bill.fault for bill in bills if bill.fault).items())),
        ledger_micro=sum(row.cost or 0 for row in rows),
        billed_micro=sum(cost or 0 for account in told for cost, _ in told[account]),
        rows_that_differ=differ,
        unknown_rows=sum(unknown.values()),
        unknown_bills=sum(untold.values()),
        unknown_bills_micro=sum(
            bill.cost_micro or 0 for bill in bills if bill.status == 200 and _hidden(bill)
        ),
        unknown_bills_without_an_unknown_row=sum((untold - unknown).values()),
        unknown_rows_that_nobody_billed=sum((unknown - untold).values()),
    )


def _hidden(bill: Bill) -> bool:
    """Say whether a response never told what its bill says; only Chat can leave usage out."""
    return bill.fault in UNTOLD and (bill.fault != "untold" or bill.api == "chat")
