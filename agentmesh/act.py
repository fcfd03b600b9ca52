"""The `act` node: one draft of one tier, judged before it has any effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from agentmesh.budgets import Account, Budgets, Spender
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Outline
from agentmesh.errors import BudgetError, TierError
from agentmesh.fanout import FanOut, Lead
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
    RetryPolicy,
    Step,
    acall_with_retry,
    call_with_retry,
    run_checks,
)
from agentmesh.state import State, failures_of, with_failure
from agentmesh.tiers import Tier

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

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft."""
        with (
            self._fan_out.passed(self._cold(state, turn)) as lead,
            self._budgets.account(_spender(state, turn)) as account,
        ):
            state, attempt = self._admitted(state, turn, account)
            failed = self._recorder(state, turn, attempt, account)
            try:
                message = call_with_retry(
                    lambda seconds: _invoked(
                        attempt, self._begin(attempt, account, config, lead), seconds
                    ),
                    policy=self._policy,
                    on_failure=failed,
                )
            except TierError as error:
                return self._failed(state, turn, attempt, error)
            return self._judged(state, turn, attempt, message)

    async def arun(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft without blocking the event loop."""
        async with self._fan_out.apassed(self._cold(state, turn)) as lead:
            with self._budgets.account(_spender(state, turn)) as account:
                state, attempt = self._admitted(state, turn, account)
                failed = self._recorder(state, turn, attempt, account)
                try:
                    message = await acall_with_retry(
                        lambda seconds: _ainvoked(
                            attempt, self._begin(attempt, account, config, lead), seconds
                        ),
                        policy=self._policy,
                        on_failure=failed,
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
        attempt = self._prepare(state, turn, tier, tail)
        failed = self._recorder(state, turn, attempt, purpose)
        quiet: RunnableConfig = {**config, "tags": [*config.get("tags", []), "nostream"]}
        try:
            message = call_with_retry(
                lambda seconds: _invoked(attempt, quiet, seconds),
                policy=self._policy,
                on_failure=failed,
            )
        except TierError:
            return ""
        usage = usage_of(message)
        cost = self._parts.prices.cost(tier.model_name, usage)
        whole = stop_of(message) == "end" and not message.tool_calls
        outcome = "ok" if whole and message.text.strip() else "check:not_text"
        self._record(state, turn, attempt, usage, cost, outcome, purpose=purpose)
        return message.text if outcome == "ok" else ""

    def _prepare(self, state: State, turn: Turn, tier: Tier, tail: str) -> Attempt:
        turn.refresh(state["step"])
        cache = tier.cache and tier.ours
        prompt = turn.prompt(tier.model_name, tail=tail, cache=cache, scope=tier.view)
        planned = _planned(prompt, turn, tier)
        self._check_budget(state, turn, tier, planned)
        return Attempt(
            tier=tier,
            prompt=prompt,
            sha=turn.sha(prompt, tier.view),
            messages=to_messages(prompt, tier.audience),
            model=self._model(tier, prompt),
            planned=planned,
            started_at=self._parts.memory.clock(),
            clock=time.perf_counter(),
        )

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

    def _check_budget(self, state: State, turn: Turn, tier: Tier, planned: Usage) -> None:
        budget = self._parts.budget
        if budget.turn_micro is None and budget.session_micro is None:
            return
        made = self._parts.memory.ledger.calls(session=state["session"])
        next_cost = self._parts.prices.cost(tier.model_name, planned) or 0
        for what, limit, spent in (
            ("turn", budget.turn_micro, sum(c.cost or 0 for c in made if c.turn == turn.number)),
            ("session", budget.session_micro, sum(c.cost or 0 for c in made)),
        ):
            if limit is not None and spent + next_cost > limit:
                raise BudgetError(
                    f"the {what} has spent ${spent / 1e6:.4f}; a call of tier {tier.name!r} would"
                    f" add about ${next_cost / 1e6:.4f} and exceed ${limit / 1e6:.4f}",
                    hint=f"raise Budget({what}_usd=...)",
                )

    def _recorder(
        self, state: State, turn: Turn, attempt: Attempt, purpose: str = "act"
    ) -> Callable[[TierError], None]:
        """Return what writes each failed request of an attempt into the ledger."""

        def failed(error: TierError) -> None:
            # A request that was refused costs nothing; what a cut stream cost nobody told.
            known = error.kind not in ("cut_stream", "timeout")
            self._record(
                state,
                turn,
                attempt,
                Usage(),
                0 if known else None,
                f"error:{error.kind}",
                str(error),
                purpose=purpose,
            )

        return failed

    def _failed(
        self, state: State, turn: Turn, attempt: Attempt, error: TierError
    ) -> dict[str, Any]:
        turn.flush()
        failure = Failure(f"error:{error.kind}", str(error), attempt.tier.name)
        return {"failures": with_failure(state, failure)}

    def _judged(
        self, state: State, turn: Turn, attempt: Attempt, message: AIMessage
    ) -> dict[str, Any]:
        """Log an accepted draft, or note why it is refused; nothing else of it remains."""
        tier, usage = attempt.tier, usage_of(message)
        blocks = to_blocks(message, tier.audience)
        failure = run_checks(
            self._parts.checks, _draft(blocks, message), self._context(state, turn)
        )
        cost = self._parts.prices.cost(tier.model_name, usage)
        outcome = f"check:{failure.check}" if failure else "ok"
        request_id = str(message.response_metadata.get("request_id") or "")
        self._record(
            state,
            turn,
            attempt,
            usage,
            cost,
            outcome,
            failure.reason if failure else "",
            request_id,
        )
        if failure:
            turn.flush()
            return {"failures": with_failure(state, failure)}
        turn.add("assistant", blocks, state["step"], model=tier.model_name)
        if not message.tool_calls:
            return {"messages": [message], "status": "done"}
        turn.flush()
        return {"messages": [message]}

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
                planned={"read": planned.read, "write": planned.write, "fresh": planned.fresh},
                usage=usage,
                cost=cost,
                outcome=outcome,
                detail=detail,
                request_id=request_id,
                started_at=attempt.started_at,
                latency_s=time.perf_counter() - attempt.clock,
            )
        )

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


def _planned(prompt: Prompt, turn: Turn, tier: Tier) -> Usage:
    """Return the tokens that a call is expected to use, by kind."""
    rules = semantics(tier.model_name)
    frozen = sum(tokens for _, tokens in turn.frozen(tier.view).tokens)
    total = frozen + sum(entry.tokens for entry in prompt.entries) + count(prompt.tail)
    answers = [entry.tokens for entry in prompt.entries if entry.kind == "assistant"]
    output = sum(answers) // len(answers) if answers else EXPECTED_OUTPUT
    if not tier.cache or rules.family == "none" or total < rules.minimum:
        return Usage(fresh=total, output=output)
    anchor = turn.view.anchors.get(tier.model_name)
    warm = (
        0
        if anchor is None
        else frozen + sum(entry.tokens for entry in prompt.entries if entry.seq <= anchor)
    )
    return Usage(read=min(warm, total), write=max(0, total - warm), output=output)


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
