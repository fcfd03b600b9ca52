"""Calls: the requests of a step, whichever models answer them, within one step's limits.

The order of the requests is a plan (see `agentmesh.plans`), the same for synchronous and
asynchronous turns.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, replace
from weakref import WeakKeyDictionary

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from agentmesh.attempts import Attempt, Attempts, Ready
from agentmesh.budgets import Account, Budgets, Spender
from agentmesh.diagnostics import KEY
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import outline
from agentmesh.errors import BudgetError, TierError
from agentmesh.fanout import FanOut, Lead
from agentmesh.memory import Call, Turn
from agentmesh.memory.render import call_marks, own_sha
from agentmesh.parts import Parts
from agentmesh.plans import Job, Outcome, Plan, Requests, Send, Wait, adrive, drive
from agentmesh.prospects import Prospects
from agentmesh.providers import stop_of, usage_of
from agentmesh.routing import (
    Pace,
    Retries,
    RetryBudget,
    RetryPolicy,
    StepLimits,
)
from agentmesh.routing.health import FAILURES, OUR_FAULT
from agentmesh.state import State, failures_of
from agentmesh.status import known_health, known_pace
from agentmesh.tiers import Tier

POLL_S = 0.1
"""How often a step looks again whether the only model left to it may be asked."""


class Calls:
    """Makes the requests of one agent and writes each into the ledger."""

    def __init__(
        self, parts: Parts, aside: Callable[[Outcome, int], None] = lambda outcome, cost: None
    ) -> None:
        self._parts = parts
        self._told_aside = aside
        self._attempts = Attempts(parts)
        self._budgets = Budgets(parts.budget, parts.name, parts.memory, parts.prices)
        self._fan_out = FanOut()
        self._health = known_health(parts.memory)
        self._pace = Pace()
        self._retries = RetryBudget()
        self.prospects = Prospects(parts, self._attempts, self._health, self._pace)
        self._limits: WeakKeyDictionary[Turn, tuple[int, StepLimits]] = WeakKeyDictionary()

    @contextmanager
    def asked(self, job: Job) -> Iterator[Outcome]:
        """Ask a tier for a draft; what it cost is reserved until the context ends."""
        ready = self._ready(job, job.tier)
        with (
            self._fan_out.passed(self._attempts.cold(ready)) as lead,
            self._budgets.account(_spender(job.turn)) as account,
        ):
            yield drive(self._plan(job, account, lead, self.limits(job.turn, job.state["step"])))

    @asynccontextmanager
    async def aasked(self, job: Job) -> AsyncIterator[Outcome]:
        """Do as `asked`, without blocking the event loop."""
        ready = self._ready(job, job.tier)
        async with self._fan_out.apassed(self._attempts.cold(ready)) as lead:
            with self._budgets.account(_spender(job.turn)) as account:
                limits = self.limits(job.turn, job.state["step"])
                yield await adrive(self._plan(job, account, lead, limits))

    def side(self, job: Job, limits: StepLimits | None = None) -> str:
        """Return what a model says to the prompt at hand with an instruction appended.

        Nothing of the answer enters the log; the ledger knows the call by its purpose. A failure
        is an empty answer.
        """

        def judged(message: AIMessage) -> str:
            whole = stop_of(message) == "end" and not message.tool_calls
            return "ok" if whole and message.text.strip() else "check:not_text"

        message = self.aside(job, limits, judged)
        return message.text if message is not None else ""

    def aside(
        self,
        job: Job,
        limits: StepLimits | None = None,
        judged: Callable[[AIMessage], str] = lambda message: "ok",
    ) -> AIMessage | None:
        """Return an answer that is no draft of the step; None if there is none that is `ok`."""
        quiet: RunnableConfig = {**job.config, "tags": [*job.config.get("tags", []), "nostream"]}
        limits = limits or StepLimits(requests=3, deadline_s=self._parts.deadline_s)
        with self._budgets.account(_spender(job.turn)) as account:
            try:
                outcome = drive(self._plan(replace(job, config=quiet), account, None, limits))
            except BudgetError:
                return None
            if outcome.message is None:
                return None
            result = judged(outcome.message)
            self.bill(outcome, result)
            self._told_aside(outcome, self.cost(outcome) or 0)
        return outcome.message if result == "ok" else None

    def limits(self, turn: Turn, step: int) -> StepLimits:
        """Return what is left to a step of a turn: one object for all tiers that draft it."""
        held = self._limits.get(turn)
        if held is None or held[0] != step:
            held = self._limits[turn] = step, StepLimits(deadline_s=self._parts.deadline_s)
        return held[1]

    def cost(self, outcome: Outcome) -> int | None:
        """Return what an answered request cost in micro-dollars; None where nobody knows."""
        attempt, message = outcome.attempt, outcome.message
        if attempt is None or message is None or message.usage_metadata is None:
            return None
        model, usage = attempt.tier.model_name, usage_of(message)
        return self._parts.prices.cost(model, usage, attempt.started_at)

    def bill(self, outcome: Outcome, result: str, detail: str = "") -> None:
        """Write an answered request into the ledger, and learn from what it was billed."""
        job, attempt, message = outcome.job, outcome.attempt, outcome.message
        if attempt is None or message is None:
            return
        tier, usage = attempt.tier, usage_of(message)
        request_id = str(message.response_metadata.get("request_id") or "")
        if reason := self._attempts.diagnostics.told(tier, job.turn.session, message):
            decision = {**job.state["decision"], KEY: reason}
            job = replace(job, state={**job.state, "decision": decision})
        self._record(job, attempt, usage, self.cost(outcome), result, detail, request_id)
        forecast = self._attempts.forecast
        forecast.billed(tier.model_name, attempt.ready.seen, usage, attempt.started_at)

    def _plan(self, job: Job, account: Account, lead: Lead | None, limits: StepLimits) -> Plan:
        """Order the requests of a job: the tier's model, its siblings, each as often as it may.

        A tier above which there is no other waits, within the deadline, for a model that is left
        alone or over its rate; any other fails at once, and the step goes up.
        """
        job = self._admitted(job, account)
        models, error = list(job.tier.models), None
        last_resort = job.tier is self._parts.tiers[-1] and job.purpose == "act"
        while True:
            for model in list(models):
                if not self._free(job, model, last_resort=last_resort):
                    continue
                models.remove(model)
                try:
                    found = yield from self._requests(
                        job, model, account, lead, limits, spare=len(models)
                    )
                    return Outcome(job, *found)
                except TierError as failed:
                    error, lead = failed, None
            wait = min((self._pace_wait(job, model) for model in models), default=0.0)
            if error is not None or not last_resort or wait >= limits.left_s:
                break
            yield Wait(min(max(wait, POLL_S), limits.left_s))
        return Outcome(job, error=error or self._left_alone(job.tier))

    def _requests(
        self,
        job: Job,
        model: Tier,
        account: Account,
        lead: Lead | None,
        limits: StepLimits,
        *,
        spare: int,
    ) -> Requests:
        """Order one model's requests; `spare` of the tier's are left for its siblings."""
        above = self._above(job.tier)
        share = 2 if spare or above else 1  # who comes after it is to have time, too
        attempt = self._attempts.attempt(job.turn, self._ready(job, model), account, lead)
        retries = Retries(
            RetryPolicy(deadline_s=max(limits.left_s, 0.01) / share),
            limits,
            self._retries,
            tier=job.tier.name,
            spare=spare,
            reserve=above,
        )
        while True:
            seconds = retries.begin()
            now = self._parts.memory.clock()
            attempt = replace(attempt, started_at=now, clock=time.perf_counter())
            account.hold(model, attempt.planned)
            self._pace.sent(model.model_name, attempt.planned.input + attempt.planned.output)
            said = yield Send(attempt, self._attempts.config(attempt, job.labelled, lead), seconds)
            if isinstance(said, AIMessage):
                self._health.success(model.model_name)
                self._pace.answered(model.model_name, time.perf_counter() - attempt.clock)
                return attempt, said
            if said is None:
                raise TypeError("a plan was resumed without the answer that it asked for")
            self._lost(job, attempt, account, said)
            wait = retries.wait_after(said)
            if wait is None:
                raise said
            if wait:
                yield Wait(wait)

    def _lost(self, job: Job, attempt: Attempt, account: Account, error: TierError) -> None:
        """Write a failed request into the ledger, and remember that its model failed."""
        if error.kind == "cut_stream":  # it had begun: what it wrote can be read
            self._attempts.begun(attempt)
        cost = 0 if error.free else None
        self._record(job, attempt, Usage(), cost, f"error:{error.kind}", str(error))
        account.free()
        if error.kind in OUR_FAULT:
            self._health.unknown(attempt.tier.model_name)
        else:
            self._health.failure(attempt.tier.model_name, error.kind)

    def _admitted(self, job: Job, account: Account) -> Job:
        """Return the job, on a cheaper tier where the budget allows only that."""
        try:
            account.hold(job.tier, self._attempts.planned(self._ready(job, job.tier)))
            return job
        except BudgetError as error:
            for tier in self._below(job.state) if self._budgets.cheaper else ():
                decision = {"stage": "budget", "reason": str(error)}
                moved: State = {**job.state, "tier": tier.name, "decision": decision}
                other = replace(job, state=moved, tier=tier, view=None)
                with suppress(BudgetError):
                    account.hold(tier, self._attempts.planned(self._ready(other, tier)))
                    return other
            raise

    def _below(self, state: State) -> list[Tier]:
        """Return the cheaper tiers that have not failed this step, the most able one first."""
        tiers = self._parts.tiers
        rank = [tier.name for tier in tiers].index(state["tier"])
        failed = {failure.tier for failure in failures_of(state)}
        return [tier for tier in reversed(tiers[:rank]) if tier.name not in failed]

    def _above(self, tier: Tier) -> int:
        names = [other.name for other in self._parts.tiers]
        return len(names) - 1 - names.index(tier.name)

    def _ready(self, job: Job, model: Tier) -> Ready:
        if job.prompt is not None:
            return Ready(model, job.prompt, outline(job.prompt, job.purpose), None)
        return self._attempts.ready(job.turn, model, job.tail, job.state["step"], job.view)

    def _free(self, job: Job, model: Tier, *, last_resort: bool) -> bool:
        """Say whether a model may be asked now; of one that is left alone this takes the probe."""
        if self._pace_wait(job, model):
            return False
        return self._health.allows(model.model_name, last_resort=last_resort)

    def _pace_wait(self, job: Job, model: Tier) -> float:
        """Return how long a request must wait for the rate that all processes share."""
        if model.rate is None or (model.rate.requests is None and model.rate.tokens is None):
            return 0.0
        planned = self._attempts.planned(self._ready(job, model))
        tokens, name = planned.input + planned.output, model.model_name
        wait = self._pace.wait_s(name, model.rate, tokens)
        return wait or known_pace(self._parts.memory, name).wait_s(name, model.rate, tokens)

    def _left_alone(self, tier: Tier) -> TierError:
        names = " and ".join(model.model_name for model in tier.models)
        return TierError(
            f"{names} failed {FAILURES} times in a row or reached the rate limit: left alone",
            kind="circuit",
            tier=tier.name,
            hint="see `agentmesh route status`",
        )

    def _record(
        self,
        job: Job,
        attempt: Attempt,
        usage: Usage,
        cost: int | None,
        outcome: str,
        detail: str = "",
        request_id: str = "",
    ) -> None:
        planned, prompt = attempt.planned, attempt.ready.prompt
        why = {"ttl": prompt.marks.why} if prompt.marks.why else {}
        own = prompt.segments if job.prompt is not None else None
        job.turn.record(
            Call(
                user=job.state["user"],
                agent=self._parts.name,
                epoch=job.turn.epoch.number,
                turn=job.turn.number,
                step=job.state["step"],
                purpose=job.purpose,
                tier=attempt.tier.name,
                model=attempt.tier.model_name,
                head=prompt.entries[-1].seq if prompt.entries else 0,
                tail=prompt.tail,
                marks=call_marks(prompt.marks, attempt.ready.view, own),
                prompt_sha=attempt.sha if own is None else own_sha(prompt),
                decision={**job.state["decision"], **why},
                planned={name: tokens for name, tokens in asdict(planned).items() if tokens},
                usage=usage,
                cost=cost,
                outcome=outcome,
                detail=detail,
                request_id=request_id,
                started_at=attempt.started_at,
                latency_s=time.perf_counter() - attempt.clock,
            )
        )
        if self._budgets:  # stored before its reservation ends
            job.turn.flush()


def _spender(turn: Turn) -> Spender:
    return Spender(turn.user, turn.view.id, turn.number)
