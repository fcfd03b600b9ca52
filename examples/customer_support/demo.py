"""The same support traffic through five designs of a desk, billed by the emulator.

Every token and dollar comes from the bills of calls that were really made over HTTP with the
vendors' own SDKs; whether a request was solved is read from the shop's database afterwards. The
models behind the emulator are stand-ins made of rules.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmesh.economy.prices import Price, PriceBook
from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.brains import BRAINS
from agentmesh.examples.customer_support.desk_agent import support_agent
from agentmesh.examples.customer_support.expect import PERSON_LIMIT_CENTS
from agentmesh.examples.customer_support.outcome import (
    Turn,
    actions_since,
    judge,
    last_action,
)
from agentmesh.examples.customer_support.parallel import run_in_processes
from agentmesh.examples.customer_support.report import Report, Row, counted, total
from agentmesh.examples.customer_support.shop import Shop, generate, write
from agentmesh.examples.customer_support.tools import desk as open_desk
from agentmesh.examples.customer_support.traffic import (
    APART_S,
    DAYS,
    Inquiry,
    Traffic,
    traffic,
)
from agentmesh.tools.desk import Desk

if TYPE_CHECKING:
    from agentmesh import Agent, Reply, Tier
    from agentmesh.routing import Router
    from agentmesh.testing import Emulator

FLAGSHIP = "anthropic:claude-opus-5-5"
STANDARD = "anthropic:claude-haiku-4-5"
STUDENT = "openai-compatible:desk-student"
STUDENT_PRICE = Price(Decimal("0.05"), Decimal("0.20"), read=Decimal("0.01"))
"""What a self-hosted student is assumed to cost, in dollars per million tokens."""

REQUESTS = 220
SMALL = 60
"""A run of fewer requests stays in one process."""

Progress = Callable[[str, int, int], None]
"""Told of the design at hand, the requests done in all, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Design:
    """A way to run the desk: which models, with prompt caching or not, with a router or not."""

    name: str
    models: tuple[str, ...]
    cache: bool
    routing: bool


DESIGNS = (
    Design("one flagship, no caching", ("flagship",), cache=False, routing=False),
    Design("with routing", ("standard", "flagship"), cache=False, routing=True),
    Design("with caching", ("flagship",), cache=True, routing=False),
    Design("with a student", ("student", "flagship"), cache=False, routing=True),
    Design("all together", ("student", "standard", "flagship"), cache=True, routing=True),
)
"""The classic cost table: each measure alone against the first design, then all of them."""


class Clock:
    """The demo's time: that of the request at hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now

    def date(self) -> datetime:
        """Return the time as a date and time in UTC."""
        return datetime.fromtimestamp(self.now, UTC)


def run(
    designs: Sequence[Design] = DESIGNS,
    requests: int = REQUESTS,
    seed: int = 7,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Report:
    """Return what the same requests cost, and how many were solved, under each design.

    Each design gets a fresh shop, a fresh memory and a fresh emulator. With more than one worker
    the designs run side by side in processes; by default as many as there are processors, and
    one for a small run.

    Raises:
        ConfigError: no design is given, or a number of workers below 1.
    """
    if not designs:
        raise ConfigError("there is no design to run", hint="leave `designs` out for all five")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers!r}", hint="give 1 or more, or leave it out")
    shop = generate(seed)
    asked = traffic(shop, requests=requests, seed=seed)
    whole, done = len(designs) * len(asked.inquiries), count(1)

    def tell(name: str) -> None:
        finished = next(done)
        if progress is not None:
            progress(name, finished, whole)

    side_by_side = workers or _processors(requests)
    if side_by_side > 1 and len(designs) > 1 and all(design in DESIGNS for design in designs):
        rows = run_in_processes(
            [DESIGNS.index(design) for design in designs],
            requests=requests,
            seed=seed,
            workers=side_by_side,
            tell=lambda number: tell(DESIGNS[number].name),
        )
    else:
        rows = [_run_design(design, shop, asked, tell) for design in designs]
    return Report(tuple(rows), _notes(shop, asked), seed)


def _processors(requests: int) -> int:
    return min(os.cpu_count() or 1, len(DESIGNS)) if requests >= SMALL else 1


def build_agent(design: Design, server: Emulator, desk: Desk, database: str, clock: Clock) -> Agent:
    """Return the desk's agent under a design; nothing else here knows how agents are made."""
    from agentmesh.memory import Memory

    return support_agent(
        desk,
        [_tier(name, server, cache=design.cache) for name in design.models],
        memory=Memory(database, clock=clock),
        router=None if design.routing else _no_router(),
    )


def _tier(name: str, server: Emulator, *, cache: bool) -> Tier:
    from agentmesh import Tier

    if name == "student":
        return Tier(
            name,
            STUDENT,
            base_url=server.openai_url,
            api_key="emulator",
            price=STUDENT_PRICE,
            cache=cache,
        )
    model = {"standard": STANDARD, "flagship": FLAGSHIP}[name]
    return Tier(name, model, base_url=server.url, api_key="emulator", cache=cache)


def _no_router() -> Router:
    """Return a router that blocks nothing and always takes the top tier."""
    from agentmesh.routing import Router, Rules

    return Router(Rules())


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one request led to."""

    intent: str
    solved: bool
    blocked: bool
    escalations: int
    caught: tuple[str, ...]


def _run_design(design: Design, shop: Shop, asked: Traffic, tell: Callable[[str], None]) -> Row:
    """Return one design's row, from a shop, a memory and an emulator of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return _run_in(Path(folder), design, shop, asked, tell)


def _run_in(
    folder: Path, design: Design, shop: Shop, asked: Traffic, tell: Callable[[str], None]
) -> Row:
    from agentmesh.testing import emulator

    clock = Clock()
    began = time.perf_counter()
    prices = PriceBook({STUDENT: STUDENT_PRICE})
    url = write(shop, folder / "shop.db")
    with (
        emulator(BRAINS, clock=clock, prices=prices) as server,
        closing(open_desk(url, clock=clock.date)) as desk,
    ):
        agent = build_agent(design, server, desk, f"sqlite:///{folder / 'memory.db'}", clock)
        with closing(agent.memory):
            _remember(agent, asked)
            seen = []
            for inquiry in asked.inquiries:
                clock.now = inquiry.at
                seen.append(_handle(agent, desk, inquiry))
                tell(design.name)
        bills = [bill for bill in server.bills if bill.status == 200]
    return Row(
        design=design.name,
        requests=len(seen),
        steps=len(bills),
        usage=total([bill.usage for bill in bills]),
        escalations=sum(one.escalations for one in seen),
        blocked=sum(one.blocked for one in seen),
        spam=asked.spam,
        spam_blocked=sum(one.blocked and one.intent == "spam" for one in seen),
        solved=sum(one.solved for one in seen),
        cost_micro=sum(bill.cost_micro or 0 for bill in bills),
        seconds=time.perf_counter() - began,
        by_model=counted([bill.model for bill in bills]),
        unsolved=counted([one.intent for one in seen if not one.solved]),
        caught=counted([check for one in seen for check in one.caught]),
    )


def _remember(agent: Agent, asked: Traffic) -> None:
    """Write what is known of returning customers into their profiles."""
    for user, facts in asked.profiles.items():
        profile = agent.memory.profile(user)
        for key, value in facts.items():
            profile.set(key, value, source="developer")


def _handle(agent: Agent, desk: Desk, inquiry: Inquiry) -> _Seen:
    """Put one request through the desk and judge it."""
    last = last_action(desk.engine)
    reply = agent.invoke(inquiry.text, user=inquiry.user, session=inquiry.session)
    while reply.interrupts:
        answer = decide(reply.interrupts)
        reply = agent.resume(answer, user=inquiry.user, session=inquiry.session)
    turn = Turn(
        reply=reply.text,
        called=_called(reply),
        writes=actions_since(desk.engine, last),
        blocked=reply.blocked is not None,
    )
    outcome = judge(inquiry.expect, turn, desk.engine)
    steps = reply.steps
    refused = tuple(step.outcome for step in steps if step.outcome != "ok")
    climbed = sum(
        later.tier != earlier.tier for earlier, later in pairwise(steps) if earlier.outcome != "ok"
    )
    return _Seen(inquiry.expect.intent, outcome.solved, turn.blocked, climbed, refused)


def decide(questions: Sequence[Any]) -> dict[str, Any]:
    """Answer the desk's questions as the demo's person does: up to a limit yes, beyond it no."""
    decisions: list[dict[str, Any]] = []
    for question in questions:
        for asked in question["action_requests"]:
            amount = Decimal(str(asked["args"].get("amount", 0)))
            if amount * 100 <= PERSON_LIMIT_CENTS:
                decisions.append({"type": "approve"})
            else:
                message = "Refused by a person: I want to see the case first."
                decisions.append({"type": "reject", "message": message})
    return {"decisions": decisions}


def _called(reply: Reply) -> tuple[str, ...]:
    """Return the names of the tools that a turn called, in order."""
    return tuple(
        call["name"] for message in reply.messages for call in getattr(message, "tool_calls", ())
    )


def _notes(shop: Shop, asked: Traffic) -> tuple[str, ...]:
    sessions = len({inquiry.session for inquiry in asked.inquiries})
    users = len({inquiry.user for inquiry in asked.inquiries})
    price = STUDENT_PRICE
    counts = (
        f"{len(asked.inquiries)} requests ({asked.spam} spam) of {users} customers in {sessions} "
        f"sessions on {DAYS} days, one every {APART_S} s in the busy hours; {len(asked.profiles)} "
        f"customers come back. The shop has {shop.rows:,} rows."
    )
    models = (
        "The models are stand-ins made of rules behind an emulator of the vendors' APIs; tokens "
        "are characters / 4. Prices are the list prices of the requests' days."
    )
    student = (
        f"The student is assumed to cost ${price.input} in, ${price.read} cached and "
        f"${price.output} out per million tokens, as a self-hosted model of 8B; its server caches "
        "prefixes on its own."
    )
    solved = (
        "Solved is read from the database, the calls made and the reply, not from what a model "
        "says of itself."
    )
    return counts, models, student, solved
