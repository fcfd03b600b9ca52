"""The loop of distillation on the support desk, offline: a student is taught, promoted, and falls.

One memory and one agent's code from the first request to the last. The flagship stand-in answers
while the student's seat is empty; a student is trained on its calls, runs in the shadow, serves
some turns as a canary, then all that it can. At last the shop's catalogue changes, and the agent
takes the slipping student back by itself. All money is the ledger's, of calls that were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.brains import BRAINS
from agentmesh.examples.customer_support.demo import FLAGSHIP, Clock, decide
from agentmesh.examples.customer_support.desk_agent import support_agent
from agentmesh.examples.customer_support.outcome import Turn, actions_since, judge, last_action
from agentmesh.examples.customer_support.proof import Phase, Proof, Served
from agentmesh.examples.customer_support.seasons import (
    catalogue,
    later,
    product_questions,
    shifted,
)
from agentmesh.examples.customer_support.shop import Shop, generate, write
from agentmesh.examples.customer_support.tools import desk as open_desk
from agentmesh.examples.customer_support.traffic import Inquiry, Traffic, traffic

if TYPE_CHECKING:
    from agentmesh import Agent, Reply
    from agentmesh.distill import Register, Version
    from agentmesh.memory import Memory
    from agentmesh.routing import Router
    from agentmesh.testing import Emulator
    from agentmesh.tools.desk import Desk

STUDENT = "desk"
REQUESTS = 1_000
AGREEMENT = 0.985
"""With the flagship, on the calls that the student answers: a request takes two or three of them."""

MARGIN = 0.01
"""How much lower than the flagship's the student's success may be."""

CANARY_REQUESTS = 500
"""Requests in which a canary may prove itself; it stops as soon as it has."""

APART_DAYS = 28
"""Each phase of the loop is so many days after the last one."""

Progress = Callable[[str, int, int], None]
"""Told of the phase, the requests done in all, and how many there will be at most."""


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
        refused = self._promoted(register)
        again = self._phase("again", shop, asked.inquiries, asked)
        if not refused:
            self._changed(asked.inquiries)
        version = register.get(STUDENT, 1)
        compared = compare(first.runs(), again.runs())
        return Proof(tuple(self.phases), loop, version, unseen, compared, refused)

    def _promoted(self, register: Register) -> str:
        """Take the student as far as its evidence carries it; return why it is not live."""
        try:
            register.promote(STUDENT, by="loop", why="measured on held-out conversations")
            self._later("shadow", self.requests // 10)
            seen = register.get(STUDENT).facts.get("shadow", {})
            why = f"{seen.get('agreed', 0)} of {seen.get('answered', 0)} answers as the flagship's"
            register.promote(STUDENT, by="loop", why=f"beside the flagship, {why}")
        except ConfigError as error:
            return str(error)
        self._later("canary", CANARY_REQUESTS, until=_decided)
        version = register.get(STUDENT, 1)
        runs, successes = version.runs
        told = f"{successes:g} of {runs} runs succeeded"
        if version.state != "canary":
            return f"the canary was rolled back: {version.events[-1]['why']}"
        if not _decided(version):
            return f"the canary has not proven itself: {told}"
        register.promote(STUDENT, by="loop", why=told)
        return ""

    def _later(self, name: str, count: int, until: Callable[[Version], bool] | None = None) -> None:
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
            Tier("student", f"student:{STUDENT}", extra={"canary": 0.8, "evidence": "feedback"}),
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
        return 2 * r + r // 10 + CANARY_REQUESTS + max(60, r // 5) + 40


def _decided(version: Version) -> bool:
    """Say whether a canary's evidence is enough, for it or against it."""
    from agentmesh.distill import Watch

    watch = version.facts.get("watch")
    return version.state != "canary" or (
        watch is not None and Watch.from_json(watch).advice == "promote"
    )


def gate() -> Router:
    """Return a router that blocks spam and leaves the choice of the tier to what is known of it."""
    from agentmesh.routing import Router, Rules

    auto = Router.auto()
    kept = tuple(rule for rule in auto.rules.rules if rule.use != "decide")
    return Router(Rules(kept), auto.classifier, spam=auto.spam)


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
        inquiry.id,
        inquiry.session,
        inquiry.text,
        outcome.solved,
        tiers,
        cost,
        steps,
        said,
        _actions(reply) if tiers else (),
    )


def _called(reply: Reply) -> tuple[str, ...]:
    return tuple(
        call["name"] for message in reply.messages for call in getattr(message, "tool_calls", ())
    )


def _actions(reply: Reply) -> tuple[str, ...]:
    """Return what each accepted draft did."""
    drafts = [message for message in reply.messages if message.type == "ai"]
    return tuple(
        "+".join(sorted(call["name"] for call in draft.tool_calls)) or "say" for draft in drafts
    )
