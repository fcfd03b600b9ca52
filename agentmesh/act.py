"""The `act` node: one draft of one tier, judged before it has any effect."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from agentmesh.calling import Calls
from agentmesh.economy.cost_model import Handover
from agentmesh.memory import Turn
from agentmesh.parts import Parts
from agentmesh.plans import Job, Outcome
from agentmesh.prompt import Prompt
from agentmesh.providers import stop_of, to_blocks, usage_of
from agentmesh.routing import (
    CheckContext,
    Draft,
    Failure,
    Step,
    StepLimits,
    TierFacts,
    ToolFacts,
    run_checks,
)
from agentmesh.routing.drafts import Ask, drafted, past_calls, shown_text
from agentmesh.seats import Seats
from agentmesh.standing import Standings
from agentmesh.state import State, failures_of, with_failure
from agentmesh.tiers import Tier
from agentmesh.toolview import ToolView

KEPT_CHARS = 8_000
"""Of a refused draft's text, and of each of its calls, that the ledger keeps."""


class Act:
    """Has the chosen tier draft the step, and judges what it drafts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.seats = Seats(parts.tiers)
        self.standings = Standings(parts)
        self._calls = Calls(parts, aside=self.standings.aside)

    def run(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft."""
        with self._calls.asked(self._job(state, turn, config)) as outcome:
            return self._judged(outcome)

    async def arun(self, state: State, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Make one draft without blocking the event loop."""
        async with self._calls.aasked(self._job(state, turn, config)) as outcome:
            return await asyncio.to_thread(self._judged, outcome)  # a check may ask a model

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
        return self._calls.side(Job(state, turn, config, tier, tail, purpose))

    def facts(self, turn: Turn) -> list[TierFacts]:
        """Return what the router may know of every tier; of an only one, no more than its name."""
        tiers = self._parts.tiers
        if len(tiers) == 1:
            return [TierFacts(tiers[0].name, tiers[0].model_name, 0)]
        known = [self._calls.prospects.facts(turn, rank, tier) for rank, tier in enumerate(tiers)]
        return [self.seats.facts(turn, facts) for facts in known]

    def takeover(self, turn: Turn, facts: TierFacts) -> Handover | None:
        """Return how a tier would take over the step at hand, and what that would cost."""
        return self._calls.prospects.takeover(turn, self._parts.tier(facts.name))

    def exhausted(self, turn: Turn, step: int, tier: str) -> bool:
        """Say whether a step may send no more requests of a tier."""
        return not self._calls.limits(turn, step).left(tier)

    def classify(
        self, state: State, turn: Turn, tier: Tier, prompt: Prompt, purpose: str = "route"
    ) -> str:
        """Return what a tier says to a prompt of its own, which shows nothing of the log."""
        job = Job(state, turn, {}, tier, prompt.tail, purpose, prompt=prompt)
        return self._calls.side(job)

    def _job(self, state: State, turn: Turn, config: RunnableConfig) -> Job:
        tier = self._parts.tier(state["tier"])
        brief = state["decision"].get("handover") == "brief"
        view = tier.handoff if brief else None
        return Job(state, turn, config, tier, self._tail(state), view=view)

    def _tail(self, state: State) -> str:
        """Return the volatile end of the prompt; after a refused draft it says why."""
        tail = self._parts.tail()
        told = [
            failure.reason
            for failure in failures_of(state)
            if failure.tier == state["tier"] and not failure.check.startswith("error:")
        ]
        if not told:
            return tail
        why = "\n".join(f"- {reason}" for reason in told)
        return f"{tail}\n\nYour previous draft was not used:\n{why}\nAnswer again.".strip()

    def _judged(self, outcome: Outcome) -> dict[str, Any]:
        """Log an accepted draft, or note why it is refused; nothing else of it remains."""
        (state, turn), message = (outcome.job.state, outcome.job.turn), outcome.message
        if message is None or outcome.attempt is None:
            error = outcome.error
            check = f"error:{error.kind}" if error else "error:api"
            return self._refused(outcome, Failure(check, str(error), state["tier"]))
        tier = outcome.attempt.tier
        blocks = to_blocks(message, tier.audience)
        draft = _draft(blocks, message)
        failure = run_checks(self._parts.checks, draft, self._context(outcome))
        outcome = self.seats.judged(outcome, failure)
        cost = self._calls.cost(outcome) or 0
        if failure:
            self.standings.refused(outcome, failure, cost)
            kept = _with_draft(outcome, blocks)
            self._calls.bill(kept, f"check:{failure.check}", failure.reason)
            return self._refused(outcome, failure)
        outcome = self.standings.accepted(outcome, cost, usage_of(message).output)
        self._calls.bill(outcome, "ok")
        self.seats.accepted(outcome)
        turn.add("assistant", blocks, state["step"], model=tier.model_name)
        update = {**_route(state), "messages": [message], "failures": []}
        if not message.tool_calls:
            return {**update, "status": "done"}
        turn.flush()
        return update

    def _refused(self, outcome: Outcome, failure: Failure) -> dict[str, Any]:
        state = outcome.job.state
        outcome.job.turn.flush()
        return {**_route(state), "failures": with_failure(state, failure)}

    def _context(self, outcome: Outcome) -> CheckContext:
        state, turn = outcome.job.state, outcome.job.turn
        said = [b for r in turn.records if r.kind in ("assistant", "tool") for b in r.entry.blocks]
        return CheckContext(
            tools={**self._removed(turn), **self._parts.toolset.facts},
            seen=shown_text(turn.epoch.segments, turn.view.shown, outcome.job.tail),
            tier=state["tier"],
            step=step_of(state, turn, self._parts),
            past=past_calls(said),
            top=state["tier"] == self._parts.tiers[-1].name,
            ask=self._asker(outcome.job),
            again=lambda: self._sample(outcome),
        )

    def _removed(self, turn: Turn) -> dict[str, ToolFacts]:
        """Return what the prompt defines and is no more: a call of it is answered, not refused."""
        declared = ToolView.of(turn.epoch.tools, turn.view.shown).declared
        gone = declared - self._parts.catalogue.by_name.keys()
        return {name: ToolFacts({}, "none", strict=False) for name in gone}

    def _asker(self, job: Job) -> Ask:
        """Return what lets a check ask a model about the step at hand."""

        def ask(instruction: str, /, *, purpose: str, tier: str = "") -> str:
            asked = self._parts.tier(tier) if tier else self._cheapest(job.turn)
            tail = f"{job.tail}\n\n{instruction}".strip()
            other = replace(job, tier=asked, tail=tail, purpose=purpose, view=None)
            return self._calls.side(other, self._aside(job))

        return ask

    def _sample(self, outcome: Outcome) -> Draft | None:
        """Return one more draft of the same tier on the same prompt; None if it fails."""
        job = outcome.job
        message = self._calls.aside(replace(job, purpose="sample"), self._aside(job))
        if message is None:
            return None
        return _draft(to_blocks(message, job.tier.audience), message)

    def _aside(self, job: Job) -> StepLimits:
        """Return the limits of a check's own requests: the step's deadline is theirs as well."""
        left = self._calls.limits(job.turn, job.state["step"]).left_s
        return StepLimits(requests=3, deadline_s=max(left, 0.01))

    def _cheapest(self, turn: Turn) -> Tier:
        """Return the tier whose call on the prompt at hand costs least."""
        ways = [(self._calls.prospects.takeover(turn, tier), tier) for tier in self._parts.tiers]
        priced = [(way.cost, rank, tier) for rank, (way, tier) in enumerate(ways) if way]
        return min(priced)[2] if priced else self._parts.tiers[0]


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


def _route(state: State) -> dict[str, Any]:
    """Return the tier that drafted and why, which the budget may have changed."""
    return {"tier": state["tier"], "decision": state["decision"]}


def _draft(blocks: list[dict[str, Any]], message: AIMessage) -> Draft:
    logprob = message.response_metadata.get("logprob")
    return replace(drafted(blocks), stop=stop_of(message), logprob=logprob)


def _with_draft(outcome: Outcome, blocks: list[dict[str, Any]]) -> Outcome:
    """Return the outcome with the refused draft beside its decision, for the ledger alone.

    It is what a verifier learns from; no prompt ever shows it.
    """
    kept = [
        {name: value[:KEPT_CHARS] for name, value in block.items()}
        for block in blocks
        if block["type"] in ("text", "call")
    ]
    state = outcome.job.state
    told: State = {**state, "decision": {**state["decision"], "draft": kept}}
    return outcome._replace(job=replace(outcome.job, state=told))
