"""The loop of distillation on the support desk, offline: a student is taught, promoted, and falls.

One memory and one agent's code from the first request to the last. The flagship stand-in answers
while the student's seat is empty; a student is trained on its calls, runs in the shadow, serves
some turns as a canary, then all that it can. At last the shop's catalogue changes, and the agent
takes the slipping student back by itself. All money is the ledger's, of calls that were made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.brains import BRAINS
from agentmesh.examples.customer_support.demo import FLAGSHIP, Clock, decide
from agentmesh.examples.customer_support.desk_agent import support_agent
from agentmesh.examples.customer_support.expect import Expect, euros
from agentmesh.examples.customer_support.outcome import Turn, actions_since, judge, last_action
from agentmesh.examples.customer_support.shop import Product, Shop, generate, write
from agentmesh.examples.customer_support.tools import desk as open_desk
from agentmesh.examples.customer_support.traffic import Inquiry, Traffic, traffic

if TYPE_CHECKING:
    from agentmesh import Agent, Reply
    from agentmesh.distill import Comparison, Loop, Run, Version
    from agentmesh.memory import Memory
    from agentmesh.routing import Router
    from agentmesh.testing import Emulator
    from agentmesh.tools.desk import Desk

STUDENT = "desk"
REQUESTS = 1_000
AGREEMENT = 0.95
MARGIN = 0.01
"""How much lower than the flagship's the student's success may be."""

APART_DAYS = 28
"""Each phase of the loop is so many days after the last one."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

VARIANTS = ("Women", "Men")
_ASKED = ("Is the {} in stock?", "How much is the {}?", "Do you have the {}?")

Progress = Callable[[str, int, int], None]
"""Told of the phase, the requests done in all, and how many there will be at most."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it went: which tiers' drafts were accepted, in order, and what it cost."""

    inquiry: int
    session: str
    text: str
    solved: bool
    tiers: tuple[str, ...]
    cost: int
    steps: int
    note: str = ""

    @property
    def by_student(self) -> bool:
        """Whether every accepted draft was the student's."""
        return bool(self.tiers) and set(self.tiers) == {"student"}


@dataclass(frozen=True, slots=True)
class Phase:
    """What came in during a part of the student's life, and how it went."""

    name: str
    served: tuple[Served, ...]

    @property
    def answered(self) -> list[Served]:
        """The requests that a tier answered: spam that was blocked is left out."""
        return [one for one in self.served if one.tiers]

    def share(self) -> float:
        """Return the share of answered requests that the student served alone."""
        return sum(one.by_student for one in self.answered) / max(1, len(self.answered))

    def success(self) -> float:
        """Return the share of all requests that were solved."""
        return sum(one.solved for one in self.served) / max(1, len(self.served))

    def cost(self) -> int:
        """Return what all requests cost, in micro-dollars."""
        return sum(one.cost for one in self.served)

    def row(self) -> dict[str, Any]:
        """Return the phase as a row of a table."""
        solved = sum(one.solved for one in self.served)
        return {
            "phase": self.name,
            "requests": len(self.served),
            "answered": len(self.answered),
            "by the student": self.share(),
            "solved": self.success(),
            "dollars": self.cost() / 1e6,
            "dollars per solved": self.cost() / 1e6 / max(1, solved),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """The whole life of the student: its phases, how it was trained, and where it ended."""

    phases: tuple[Phase, ...]
    loop: Loop
    version: Version
    unseen: frozenset[str]
    comparison: Comparison

    def phase(self, name: str) -> Phase:
        """Return a phase by its name."""
        return next(phase for phase in self.phases if phase.name == name)

    def page(self) -> str:
        """Return the report as a page that needs nothing else."""
        from agentmesh.distill.plots import bars, line
        from agentmesh.distill.report import page

        rows = [phase.row() for phase in self.phases]
        pictures = [
            line(
                "The student on held-out calls",
                self.loop.held.curve,
                "share answered",
                "agreement with the flagship",
            ),
            bars("Dollars per solved request", {r["phase"]: r["dollars per solved"] for r in rows}),
            bars("Solved", {r["phase"]: r["solved"] for r in rows}, "{:.1%}"),
            bars(
                "Served by the student", {r["phase"]: r["by the student"] for r in rows}, "{:.1%}"
            ),
        ]
        return page(self.comparison, pictures=pictures)

    def figures(self) -> dict[str, float]:
        """Return what the loop is measured by.

        The cost is that of the requests in which the student gave the last word, over what the
        same requests had cost the flagship; of what failed on the way everything is counted.
        """
        before = {one.inquiry: one for one in self.phase("flagship").served}
        again = self.phase("again")
        ended = [one for one in again.answered if one.tiers[-1] == "student"]
        mine = sum(one.cost for one in ended)
        theirs = sum(before[one.inquiry].cost for one in ended)
        new = [one for one in again.served if one.session in self.unseen]
        old = [before[one.inquiry] for one in new]
        return {
            "share served by the student": again.share(),
            "success of the flagship": self.phase("flagship").success(),
            "success with the student": again.success(),
            "cost over the flagship's, requests it serves": mine / max(1, theirs),
            "cost over the flagship's, all requests": again.cost()
            / max(1, self.phase("flagship").cost()),
            "held-out requests": float(len(new)),
            "share served, held out": _share(one.by_student for one in new if one.tiers),
            "success of the flagship, held out": _share(one.solved for one in old),
            "success with the student, held out": _share(one.solved for one in new),
        }


def prove(
    folder: Path,
    *,
    requests: int = REQUESTS,
    seed: int = 7,
    agreement: float = AGREEMENT,
    progress: Progress | None = None,
) -> Proof:
    """Run the loop and return what came of it; memory, shops, student and split stay in `folder`.

    Args:
        folder: an empty one.
        requests: that the flagship answers first, and that are run again at the end.
        seed: of shop and traffic.
        agreement: asked of the student, on the calls that it answers.
        progress: told after each request.
    """
    if requests < 50:
        raise ConfigError(
            f"requests={requests!r}", hint="a student needs at least 50 to learn from"
        )
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{str(folder)!r} is not empty", hint="give a new folder")
    from agentmesh.memory import Memory
    from agentmesh.testing import emulator

    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    with (
        emulator(BRAINS, clock=clock) as server,
        closing(Memory(f"sqlite:///{folder / 'memory.db'}", clock=clock)) as memory,
    ):
        school = _School(folder, requests, seed, clock, server, memory, progress)
        return school.run(agreement)


@dataclass
class _School:
    """The phases of the loop, one after the other, on one memory."""

    folder: Path
    requests: int
    seed: int
    clock: Clock
    server: Emulator
    memory: Memory
    progress: Progress | None
    phases: list[Phase] = field(default_factory=list)
    done: int = 0

    def run(self, agreement: float) -> Proof:
        from agentmesh.distill import Register, Split, compare, distil

        register = Register(self.memory)
        size = max(600, round(2.6 * self.requests))
        shop = generate(self.seed, customers=size)
        asked = traffic(shop, requests=self.requests, seed=self.seed)
        first = self._phase("flagship", shop, asked.inquiries, asked)
        self._tell("training the student")
        loop = distil(
            self.memory,
            self.folder,
            name=STUDENT,
            agreement=agreement,
            margin=MARGIN,
            threshold=None,
            by="loop",
        )
        split = Split.load(self.folder / f"{STUDENT}-1.split.json")
        unseen = frozenset(s.rpartition("@")[0] for s in split.ids("test"))
        register.promote(STUDENT, by="loop", why="measured on held-out conversations")
        self._later("shadow", shop, self.requests // 10)
        seen = register.get(STUDENT).facts.get("shadow", {})
        why = f"{seen.get('agreed', 0)} of {seen.get('answered', 0)} answers as the flagship's"
        register.promote(STUDENT, by="loop", why=f"beside the flagship, {why}")
        self._later("canary", shop, self.requests // 2, until=lambda v: self._proven(v))
        runs, successes = register.get(STUDENT, 1).runs
        if register.get(STUDENT, 1).state == "canary":
            why = f"{successes:g} of {runs} runs succeeded"
            register.promote(STUDENT, by="loop", why=why)
            again = self._phase("again", shop, asked.inquiries, asked)
            self._changed(asked.inquiries)
        else:  # it was rolled back as a canary: the flagship goes on alone
            again = self._phase("again", shop, asked.inquiries, asked)
        version = register.get(STUDENT, 1)
        compared = compare(_runs(first), _runs(again))
        return Proof(tuple(self.phases), loop, version, unseen, compared)

    def _later(
        self, name: str, shop: Shop, count: int, until: Callable[[Version], bool] | None = None
    ) -> None:
        """Run requests that nobody has seen, of customers of a shop of their own."""
        number = len(self.phases)
        other = generate(self.seed + number, customers=max(600, round(2.6 * count)))
        asked = traffic(other, requests=count, seed=self.seed + number)
        self._phase(name, other, asked.inquiries, asked, until)

    def _changed(self, before: Sequence[Inquiry]) -> None:
        """Let the catalogue change: each article comes in two variants from now on."""
        shop = generate(self.seed, customers=600)
        new = catalogue(shop)
        asked = product_questions(shop, new, max(60, self.requests // 5), at=before[0].at)
        self._phase("new catalogue", new, asked, None, until=lambda v: v.state == "retired")
        rest = product_questions(shop, new, 40, at=before[0].at)
        self._phase("after the rollback", new, rest, None)

    def _proven(self, version: Version) -> bool:
        from agentmesh.distill import Watch

        watch = version.facts.get("watch")
        return version.state != "canary" or (
            watch is not None and Watch.from_json(watch).advice == "promote"
        )

    def _phase(
        self,
        name: str,
        shop: Shop,
        inquiries: Sequence[Inquiry],
        asked: Traffic | None,
        until: Callable[[Version], bool] | None = None,
    ) -> Phase:
        from agentmesh.distill import Register

        days = APART_DAYS * len(self.phases)
        served: list[Served] = []
        with self._desk(shifted(shop, days), name) as (agent, desk):
            for user, facts in (asked.profiles if asked else {}).items():
                for key, value in facts.items():
                    agent.memory.profile(user).set(key, value, source="developer")
            for inquiry in inquiries:
                self.clock.now = inquiry.at + timedelta(days=days).total_seconds()
                served.append(_handle(agent, desk, later(inquiry, days), name))
                self._tell(name, 1)
                if until is not None and until(Register(self.memory).get(STUDENT, 1)):
                    break
        phase = Phase(name, tuple(served))
        self.phases.append(phase)
        return phase

    @contextmanager
    def _desk(self, shop: Shop, name: str) -> Iterator[tuple[Agent, Desk]]:
        from agentmesh import Tier

        url = write(shop, self.folder / f"shop-{len(self.phases)}.db")
        tiers = [
            Tier("student", f"student:{STUDENT}", extra={"canary": 0.5, "evidence": "feedback"}),
            Tier("flagship", FLAGSHIP, base_url=self.server.url, api_key="emulator"),
        ]
        with (
            closing(open_desk(url, clock=self.clock.date)) as desk,
            support_agent(desk, tiers, memory=self.memory, router=gate()) as agent,
        ):
            yield agent, desk

    def _tell(self, name: str, done: int = 0) -> None:
        self.done += done
        if self.progress is not None:
            self.progress(name, self.done, self.most)

    @property
    def most(self) -> int:
        """How many requests there will be at most."""
        r = self.requests
        return 2 * r + r // 10 + r // 2 + max(60, r // 5) + 40


def gate() -> Router:
    """Return a router that blocks spam and leaves the choice of the tier to what is known of it."""
    from agentmesh.routing import Router, Rules

    auto = Router.auto()
    kept = tuple(rule for rule in auto.rules.rules if rule.use != "decide")
    return Router(Rules(kept), auto.classifier, spam=auto.spam)


def shifted(shop: Shop, days: int) -> Shop:
    """Return a shop whose orders are all so many days later."""
    by = timedelta(days=days)

    def moved(row: Any, *names: str) -> Any:
        dates = {name: getattr(row, name) for name in names}
        return replace(row, **{k: v + by for k, v in dates.items() if v is not None})

    return replace(
        shop,
        orders=tuple(moved(o, "placed_on", "shipped_on", "delivered_on") for o in shop.orders),
        returns=tuple(moved(r, "created_on") for r in shop.returns),
        refunds=tuple(moved(r, "created_on") for r in shop.refunds),
    )


def later(inquiry: Inquiry, days: int) -> Inquiry:
    """Return a request whose solution names the dates of a shop that was shifted as well."""

    def moved(words: str) -> str:
        return _DATE.sub(lambda d: f"{date.fromisoformat(d[0]) + timedelta(days=days)}", words)

    says = tuple(tuple(map(moved, group)) for group in inquiry.expect.says)
    return replace(inquiry, expect=replace(inquiry.expect, says=says))


def catalogue(shop: Shop) -> Shop:
    """Return the shop with each article in two variants, the second one dearer."""
    variants: list[Product] = []
    for product in shop.products:
        first = replace(product, name=f"{product.name} {VARIANTS[0]}")
        cents = product.price_cents + 1_000
        second = replace(
            product, id=f"{product.id}-2", name=f"{product.name} {VARIANTS[1]}", price_cents=cents
        )
        variants += [first, second]
    return replace(shop, products=tuple(variants))


def product_questions(old: Shop, new: Shop, count: int, *, at: float) -> list[Inquiry]:
    """Return questions about articles, solved by an answer that prices all of their variants."""
    prices: dict[str, list[int]] = {}
    for product in new.products:
        prices.setdefault(product.id.removesuffix("-2"), []).append(product.price_cents)
    made = []
    for i in range(count):
        product = old.products[(7 * i) % len(old.products)]
        user = old.customers[i % len(old.customers)].id
        says = tuple((euros(cents),) for cents in prices[product.id])
        expect = Expect("product", ("find_product",), says=says)
        text = _ASKED[i % len(_ASKED)].format(product.name)
        made.append(Inquiry(i + 1, f"{user}-{i}", user, at + 60.0 * i, text, expect))
    return made


def _handle(agent: Agent, desk: Desk, inquiry: Inquiry, phase: str) -> Served:
    """Put one request through the desk, judge it, and tell the agent how it was."""
    session = f"{inquiry.session}@{phase}"
    last = last_action(desk.engine)
    reply = agent.invoke(inquiry.text, user=inquiry.user, session=session)
    while reply.interrupts:
        answer = decide(reply.interrupts)
        reply = agent.resume(answer, user=inquiry.user, session=session)
    turn = Turn(
        reply=reply.text,
        called=_called(reply),
        writes=actions_since(desk.engine, last),
        blocked=reply.blocked is not None,
    )
    outcome = judge(inquiry.expect, turn, desk.engine)
    if not reply.blocked:
        reply.feedback(float(outcome.solved), label="solved" if outcome.solved else "unsolved")
    tiers = tuple(step.tier for step in reply.steps if step.outcome == "ok")
    cost, steps = reply.cost.micro or 0, len(reply.steps)
    said = reply.text if outcome.solved else f"{outcome.why}: {reply.text}"
    return Served(
        inquiry.id, inquiry.session, inquiry.text, outcome.solved, tiers, cost, steps, said
    )


def _called(reply: Reply) -> tuple[str, ...]:
    return tuple(
        call["name"] for message in reply.messages for call in getattr(message, "tool_calls", ())
    )


def _runs(phase: Phase) -> list[Run]:
    from agentmesh.distill import Run

    return [
        Run(
            f"{one.inquiry}: {one.text}",
            float(one.solved),
            one.steps,
            cost=one.cost / 1e6,
            note=one.note,
        )
        for one in phase.served
    ]


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))
