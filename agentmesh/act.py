"""The `act` node: one draft of one tier, judged before it has any effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentmesh.budgets import Account, Budgets, Spender
from agentmesh.diagnostics import KEY, Diagnostics
from agentmesh.economy.cost_model import Rates
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Outline
from agentmesh.errors import BudgetError, TierError
from agentmesh.fanout import Cold, FanOut, Lead
from agentmesh.forecast import Forecast
from agentmesh.memory import Call, Turn
from agentmesh.memory.render import call_marks
from agentmesh.parts import Parts
from agentmesh.prompt import Prompt
from agentmesh.providers import stop_of, to_blocks, to_messages, to_tools, usage_of
from agentmesh.providers.foreign import failure_of
from agentmesh.routing import (
    CheckContext,
    Draft,
    DraftCall,
    Failure,
    Health,
    RetryPolicy,
    Step,
    TierFacts,
    TierPrices,
    acall_with_retry,
    call_with_retry,
    run_checks,
)
from agentmesh.state import State, failures_of, with_failure
from agentmesh.tiers import Tier

FAILURES = 3
"""Failures in a row after which a model is left alone, but for one request every 30 seconds."""

_OUR_FAULT = ("invalid_request", "context_overflow", "not_found")
"""Failures that say nothing about how the model is doing."""


class Ready(NamedTuple):
    """A prompt that is rendered for a tier, and what of it a cache can hold."""

    tier: Tier
    prompt: Prompt
    seen: Outline


@dataclass(frozen=True)
class Attempt:
    """One call about to be made: everything about it that is known beforehand."""

    tier: Tier
    prompt: Prompt
    seen: Outline
    sha: str
    messages: list[BaseMessage]
    model: Runnable[Any, Any]
    planned: Usage
    started_at: float
    clock: float


class Act:
    """Calls the chosen tier's model and judges its draft."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bound: dict[tuple[Any, ...], Runnable[Any, Any]] = {}
        self._policy = RetryPolicy(deadline_s=parts.deadline_s)
        self._budgets = Budgets(parts.budget, parts.name, parts.memory, parts.prices)
        self._forecast = Forecast(parts.memory)
        self._fan_out = FanOut()
        self._health = Health(failures=FAILURES)
        self._diagnostics = Diagnostics()

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft."""
        if refused := self._left_alone(state):
            return refused
        ready = self._ready(turn, self._parts.tier(state["tier"]), self._tail(state), state["step"])
        with (
            self._fan_out.passed(self._cold(ready)) as lead,
            self._budgets.account(_spender(turn)) as account,
        ):
            state, attempt = self._admitted(state, turn, ready, account, lead)
            try:
                message = call_with_retry(
                    lambda seconds: _invoked(
                        attempt, self._begin(attempt, account, config, lead), seconds
                    ),
                    policy=self._policy,
                    on_failure=self._recorder(state, turn, attempt, account),
                )
            except TierError as error:
                return self._failed(state, turn, attempt, error)
            return self._judged(state, turn, attempt, message)

    async def arun(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft without blocking the event loop."""
        if refused := self._left_alone(state):
            return refused
        ready = self._ready(turn, self._parts.tier(state["tier"]), self._tail(state), state["step"])
        async with self._fan_out.apassed(self._cold(ready)) as lead:
            with self._budgets.account(_spender(turn)) as account:
                state, attempt = self._admitted(state, turn, ready, account, lead)
                try:
                    message = await acall_with_retry(
                        lambda seconds: _ainvoked(
                            attempt, self._begin(attempt, account, config, lead), seconds
                        ),
                        policy=self._policy,
                        on_failure=self._recorder(state, turn, attempt, account),
                    )
                except TierError as error:
                    return self._failed(state, turn, attempt, error)
                return self._judged(state, turn, attempt, message)

    def side_call(
        self,
        state: State,
        turn: Turn,
        config: RunnableConfig,
        *,
        tier: Tier,
        purpose: str,
        tail: str,
    ) -> str:
        """Return what a model says to the prompt at hand with an instruction appended.

        The prompt is the one that the tier has cached, tools and all. Nothing of the answer enters
        the log; the ledger knows the call by its purpose. A failure is an empty answer.
        """
        quiet: RunnableConfig = {**config, "tags": [*config.get("tags", []), "nostream"]}
        with self._budgets.account(_spender(turn)) as account:
            try:
                ready = self._ready(turn, tier, tail, state["step"])
                attempt = self._attempt(turn, ready, account)
                message = call_with_retry(
                    lambda seconds: _invoked(
                        attempt, self._begin(attempt, account, quiet), seconds
                    ),
                    policy=self._policy,
                    on_failure=self._recorder(state, turn, attempt, account, purpose),
                )
            except (TierError, BudgetError):
                return ""
            whole = stop_of(message) == "end" and not message.tool_calls
            outcome = "ok" if whole and message.text.strip() else "check:not_text"
            self._bill(state, turn, attempt, message, outcome, purpose=purpose)
        return message.text if outcome == "ok" else ""

    def _ready(self, turn: Turn, tier: Tier, tail: str, step: int) -> Ready:
        turn.refresh(step)
        cache = tier.cache and tier.ours
        prompt = turn.prompt(tier.model_name, tail=tail, cache=cache, scope=tier.view)
        return Ready(tier, prompt, self._forecast.seen(tier.model_name, turn, prompt))

    def facts(self, turn: Turn, rank: int, tier: Tier) -> TierFacts:
        """Return what a tier would be paid for the next draft, and what it has cached of it."""
        ready = self._ready(turn, tier, "", 0)
        now = self._parts.memory.clock()
        planned = self._forecast.usage(tier.model_name, ready.seen, ready.prompt, now)
        price = self._parts.prices.price(tier.model_name, input_tokens=planned.input)
        prices = None
        if price is not None:
            rates = Rates.from_price(price.complete(tier.model_name), semantics(tier.model_name))
            cached = tier.cache and tier.ours
            read = rates.read if cached else rates.fresh
            write = rates.write if cached else rates.fresh
            prices = TierPrices(rates.fresh, rates.output, read, write)
        return TierFacts(
            tier.name,
            tier.model_name,
            rank,
            prices=prices,
            warm=planned.read,
            available=self._health.available(tier.model_name),
        )

    def _left_alone(self, state: State) -> dict[str, Any] | None:
        """Return the step's failure if its model has failed so often that it gets no request now."""
        tier = self._parts.tier(state["tier"])
        if len(self._parts.tiers) == 1 or self._health.allows(tier.model_name):
            return None
        reason = f"{tier.model_name} has failed {FAILURES} times in a row and is left alone"
        failure = Failure("error:circuit", reason, tier.name)
        return {**_route(state), "failures": with_failure(state, failure)}

    def _cold(self, ready: Ready) -> Cold:
        """Return what tells whether a draft's shared prefix is still to be written."""
        tier, _, seen = ready
        if not (tier.ours and tier.cache):
            return lambda: None
        return lambda: self._forecast.cold(tier.model_name, seen, self._parts.memory.clock())

    def _admitted(
        self, state: State, turn: Turn, ready: Ready, account: Account, lead: Lead | None
    ) -> tuple[State, Attempt]:
        """Return the attempt that the budget allows, and the state with the tier that makes it."""
        try:
            return state, self._attempt(turn, ready, account, lead)
        except BudgetError as error:
            for tier in self._below(state) if self._budgets.cheaper else ():
                decision = {"stage": "budget", "reason": str(error)}
                moved: State = {**state, "tier": tier.name, "decision": decision}
                other = self._ready(turn, tier, self._tail(moved), state["step"])
                with suppress(BudgetError):
                    return moved, self._attempt(turn, other, account)
            raise

    def _below(self, state: State) -> list[Tier]:
        """Return the cheaper tiers that have not failed this step, the most able one first."""
        tiers = self._parts.tiers
        rank = [tier.name for tier in tiers].index(state["tier"])
        failed = {failure.tier for failure in failures_of(state)}
        return [tier for tier in reversed(tiers[:rank]) if tier.name not in failed]

    def _attempt(
        self, turn: Turn, ready: Ready, account: Account, lead: Lead | None = None
    ) -> Attempt:
        """Return a call that may be made now; `BudgetError` if it may not."""
        tier, prompt, seen = ready
        now = self._parts.memory.clock()
        planned = self._forecast.usage(tier.model_name, seen, prompt, now)
        account.hold(tier, planned)
        model = self._diagnostics.asking(tier, turn.session, self._model(tier, prompt))
        return Attempt(
            tier=tier,
            prompt=prompt,
            seen=seen,
            sha=turn.sha(prompt, tier.view),
            messages=to_messages(prompt, tier.audience),
            model=model if lead is None else model.bind(stream=True),
            planned=planned,
            started_at=now,
            clock=time.perf_counter(),
        )

    def _begin(
        self, attempt: Attempt, account: Account, config: RunnableConfig, lead: Lead | None = None
    ) -> RunnableConfig:
        """Reserve what a request may cost, and return its configuration."""
        account.hold(attempt.tier, attempt.planned)
        if lead is None:
            return config

        def begun() -> None:
            self._forecast.begun(attempt.tier.model_name, attempt.seen, attempt.started_at)
            lead.end()

        return merge_configs(config, {"callbacks": [_FirstToken(begun)]})

    def _tail(self, state: State) -> str:
        """Return the volatile end of the prompt; after a refused draft it says why."""
        tail = self._parts.tail()
        told = [f for f in failures_of(state) if f.tier == state["tier"]]
        if not told:
            return tail
        why = "\n".join(f"- {failure.reason}" for failure in told)
        return f"{tail}\n\nYour previous draft was not used:\n{why}\nAnswer again.".strip()

    def _model(self, tier: Tier, prompt: Prompt) -> Runnable[Any, Any]:
        key = (tier.name, prompt.tools, prompt.marks.segments.get("tools"))
        if key not in self._bound:
            tools = to_tools(prompt, marks=tier.ours)
            self._bound[key] = tier.chat.bind_tools(tools) if tools else tier.chat
        return self._bound[key]

    def _recorder(
        self,
        state: State,
        turn: Turn,
        attempt: Attempt,
        account: Account,
        purpose: str = "act",
    ) -> Callable[[TierError], None]:
        """Return what writes each failed request of an attempt into the ledger."""

        def failed(error: TierError) -> None:
            if error.kind == "cut_stream":  # it had begun: what it wrote can be read
                self._forecast.begun(attempt.tier.model_name, attempt.seen, attempt.started_at)
            self._record(
                state,
                turn,
                attempt,
                Usage(),
                0 if error.free else None,
                f"error:{error.kind}",
                str(error),
                purpose=purpose,
            )
            account.free()
            if error.kind not in _OUR_FAULT:
                self._health.failure(attempt.tier.model_name, error.kind)

        return failed

    def _failed(
        self, state: State, turn: Turn, attempt: Attempt, error: TierError
    ) -> dict[str, Any]:
        turn.flush()
        failure = Failure(f"error:{error.kind}", str(error), attempt.tier.name)
        return {**_route(state), "failures": with_failure(state, failure)}

    def _judged(
        self, state: State, turn: Turn, attempt: Attempt, message: AIMessage
    ) -> dict[str, Any]:
        """Log an accepted draft, or note why it is refused; nothing else of it remains."""
        self._health.success(attempt.tier.model_name)
        blocks = to_blocks(message, attempt.tier.audience)
        failure = run_checks(
            self._parts.checks, _draft(blocks, message), self._context(state, turn)
        )
        outcome = f"check:{failure.check}" if failure else "ok"
        self._bill(state, turn, attempt, message, outcome, failure.reason if failure else "")
        if failure:
            turn.flush()
            return {**_route(state), "failures": with_failure(state, failure)}
        turn.add("assistant", blocks, state["step"], model=attempt.tier.model_name)
        if not message.tool_calls:
            return {**_route(state), "messages": [message], "status": "done"}
        turn.flush()
        return {**_route(state), "messages": [message]}

    def _bill(
        self,
        state: State,
        turn: Turn,
        attempt: Attempt,
        message: AIMessage,
        outcome: str,
        detail: str = "",
        purpose: str = "act",
    ) -> None:
        """Write an answered call into the ledger, and learn from what it was billed."""
        tier, usage = attempt.tier, usage_of(message)
        told = message.usage_metadata is not None
        cost = self._parts.prices.cost(tier.model_name, usage, attempt.started_at) if told else None
        request_id = str(message.response_metadata.get("request_id") or "")
        if reason := self._diagnostics.told(tier, turn.session, message):
            state = {**state, "decision": {**state["decision"], KEY: reason}}
        self._record(state, turn, attempt, usage, cost, outcome, detail, request_id, purpose)
        self._forecast.billed(tier.model_name, attempt.seen, usage, attempt.started_at)

    def _record(
        self,
        state: State,
        turn: Turn,
        attempt: Attempt,
        usage: Usage,
        cost: int | None,
        outcome: str,
        detail: str = "",
        request_id: str = "",
        purpose: str = "act",
    ) -> None:
        planned = attempt.planned
        turn.record(
            Call(
                user=state["user"],
                agent=self._parts.name,
                epoch=turn.epoch.number,
                turn=turn.number,
                step=state["step"],
                purpose=purpose,
                tier=attempt.tier.name,
                model=attempt.tier.model_name,
                head=attempt.prompt.entries[-1].seq,
                tail=attempt.prompt.tail,
                marks=call_marks(attempt.prompt.marks, attempt.tier.view),
                prompt_sha=attempt.sha,
                decision=state["decision"],
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
            turn.flush()

    def _context(self, state: State, turn: Turn) -> CheckContext:
        parts = [segment.text for segment in turn.epoch.segments]
        parts += [str(b.get("text", "")) for e in turn.view.shown for b in e.blocks]
        return CheckContext(
            tools=self._parts.tool_facts,
            seen="\n".join(parts),
            tier=state["tier"],
            step=step_of(state, turn, self._parts),
        )


def step_of(state: State, turn: Turn, parts: Parts) -> Step:
    """Return what the router and the checks may know of a step."""
    mine = [record for record in turn.records if record.kind in ("user", "tool")]
    said = [b["text"] for r in mine if r.kind == "user" for b in r.entry.blocks]
    frozen = sum(tokens for _, tokens in turn.epoch.tokens)
    return Step(
        text="\n".join(said),
        turn=turn.number,
        step=state["step"],
        after="tool" if mine and mine[-1].kind == "tool" else "user",
        tools=tuple(parts.catalogue.by_name),
        prompt_tokens=frozen + sum(entry.tokens for entry in turn.view.shown),
        failures=failures_of(state),
        user=state["user"],
        session=state["session"],
    )


def _spender(turn: Turn) -> Spender:
    return Spender(turn.user, turn.session, turn.number)


def _route(state: State) -> dict[str, Any]:
    """Return the tier that drafted and why, which the budget may have changed."""
    return {"tier": state["tier"], "decision": state["decision"]}


class _FirstToken(BaseCallbackHandler):
    """Tells, once, that an answer has begun."""

    run_inline = True

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun: Callable[[], None] | None = begun

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()


def _draft(blocks: list[dict[str, Any]], message: AIMessage) -> Draft:
    return Draft(
        text="\n".join(block["text"] for block in blocks if block["type"] == "text"),
        calls=tuple(
            DraftCall(block["id"], block["name"], block["arguments"])
            for block in blocks
            if block["type"] == "call"
        ),
        stop=stop_of(message),
    )


def _invoked(attempt: Attempt, config: RunnableConfig, seconds: float) -> AIMessage:
    try:
        return _answer(
            attempt.model.invoke(attempt.messages, config, **_bounds(attempt.tier, seconds))
        )
    except Exception as error:
        raise failure_of(error, attempt.tier.model_name) from error


async def _ainvoked(attempt: Attempt, config: RunnableConfig, seconds: float) -> AIMessage:
    try:
        return _answer(
            await attempt.model.ainvoke(attempt.messages, config, **_bounds(attempt.tier, seconds))
        )
    except Exception as error:
        raise failure_of(error, attempt.tier.model_name) from error


def _bounds(tier: Tier, seconds: float) -> dict[str, float]:
    return {"timeout_s": min(seconds, tier.timeout_s)} if tier.ours else {}


def _answer(message: Any) -> AIMessage:
    if not isinstance(message, AIMessage):
        raise TypeError(f"a chat model answered with {type(message).__name__}, not an AIMessage")
    return message
