"""The `route` node: which tier drafts next, why, and how it is told what happened so far."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from agentmesh.act import Act, step_of
from agentmesh.errors import TurnError
from agentmesh.prompt import Marks, Prompt, Segment
from agentmesh.routing import Decision, Failure, FewShot, Step, TierFacts, escalate
from agentmesh.routing.fewshot import prefix
from agentmesh.sessions import WORDS
from agentmesh.standing import Expected, Standing
from agentmesh.state import State

if TYPE_CHECKING:
    from agentmesh.economy.cost_model import Handover
    from agentmesh.memory import Turn
    from agentmesh.parts import Parts

_ASKING: ContextVar[tuple[State, Turn]] = ContextVar("asking")
"""The step that is being routed, for the stage that asks a model."""

TOP_ATTEMPTS = 2
"""Drafts that a tier with nobody above it may make of one step before the turn fails."""


class Route:
    """Picks the tier of every draft of one agent."""

    def __init__(self, parts: Parts, act: Act) -> None:
        self._parts = parts
        self._act = act
        self._names = [tier.name for tier in parts.tiers]
        self._router = parts.router
        policy = parts.router.policy
        if policy.few_shot is not None:
            self._asked = parts.tier(policy.few_shot)
            self._router = parts.router.with_model(FewShot(self._ask, sure=policy.sure))

    def run(self, state: State, turn: Turn) -> dict[str, Any]:
        """Pick the tier of the next draft, and say why."""
        facts = self._act.facts(turn)
        step = step_of(state, turn, self._parts)
        if step.failures:
            return self._escalated(state, turn, step, facts)
        if state["step"] and state.get("tier") and _taken_up(state):
            reason = "the tier that took over goes on with this turn"
            words, _ = self._expect(turn, step, facts)
            told = {"stage": "pinned", "reason": reason, **words}
            return {"decision": {**state["decision"], **told}}
        _ASKING.set((state, turn))
        words, known = self._expect(turn, step, facts)
        chosen = self._chosen(turn, step, known)
        return {"tier": chosen.tier, "decision": {**chosen.record(), **words}}

    def _ask(self, prompt: str) -> str:
        """Ask the tier of the third stage: the fixed part of its prompt is one that it caches."""
        state, turn = _ASKING.get()
        marks = Marks({"core": "short"}) if self._asked.cache and self._asked.ours else Marks()
        fixed, request = prefix(), prompt.removeprefix(prefix())
        asked = Prompt((), (Segment("core", fixed),), (), request, marks, "route")
        waiting: State = {**state, "decision": {"stage": "model", "reason": "classifier unsure"}}
        return self._act.classify(waiting, turn, self._asked, asked)

    def _chosen(self, turn: Turn, step: Step, facts: Sequence[TierFacts]) -> Decision:
        """Return the router's decision, as far as what has failed and been spent allows it."""
        standing = self._act.standings.of(turn)
        known = standing.expected.outlook if standing.expected else None
        decision = self._router.route(replace(step, outlook=known), facts)
        if len(facts) == 1 or decision.tier not in self._names:
            return decision
        most = self._parts.router.policy.pin_after
        floor = standing.floor(decision.kind, self._names, most)
        if self._names.index(decision.tier) < floor:
            reason = (
                f"{most} drafts of a {decision.kind} step have failed below {self._names[floor]}"
                " in this epoch"
            )
            return replace(decision, tier=self._names[floor], stage="pinned", reason=reason)
        return self._guarded(decision, facts, standing)

    def _guarded(
        self, decision: Decision, facts: Sequence[TierFacts], standing: Standing
    ) -> Decision:
        """Return the decision, or the next tier whose draft may be lost within the guard's bound."""
        guard, tier = standing.guard, self._affordable(decision.tier, facts, standing)
        if guard is None or tier.name == decision.tier:
            return decision
        reason = (
            f"the session has cost ${guard.paid:.4f}, {self._names[-1]} alone ${guard.alone:.4f}:"
            f" a lost draft of {decision.tier} could cost more than {guard.limit:.0%} above it"
        )
        return replace(decision, tier=tier.name, stage="guard", reason=reason)

    def _affordable(self, name: str, facts: Sequence[TierFacts], standing: Standing) -> TierFacts:
        """Return a tier, or the next one above it whose draft may be lost; itself if none may."""
        chosen, *above = facts[self._names.index(name) :]
        if standing.may_lose(chosen):
            return chosen
        fits = (tier for tier in above if tier.available and standing.may_lose(tier))
        return next(fits, chosen)

    def _expect(
        self, turn: Turn, step: Step, facts: Sequence[TierFacts]
    ) -> tuple[dict[str, dict[str, float]], Sequence[TierFacts]]:
        """Return what the words alone say, for the ledger, and the tiers with their chances.

        Those are what the session's last steps make of the words. What is known of the step is
        kept for the guard, if all prices are known.
        """
        if len(facts) == 1:
            return {}, facts
        standing, router = self._act.standings.of(turn), self._parts.router
        said = router.chances(step, facts)
        words = {name: round(said[name], 4) for name in self._names[:-1]}
        chances = standing.session.begun(turn.number, words)
        facts = [replace(tier, success=chances.get(tier.name, tier.success)) for tier in facts]
        if all(tier.prices is not None for tier in facts):
            new = self._act.standings.new_tokens(standing, step.prompt_tokens)
            outlook = standing.session.outlook(router.outlook, turn)
            known = Expected(facts, step.prompt_tokens, new, outlook)
            standing.expects(known, router.policy.stake_usd)
        return {WORDS: words}, facts

    def _escalated(
        self, state: State, turn: Turn, step: Step, facts: Sequence[TierFacts]
    ) -> dict[str, Any]:
        last, decision = step.failures[-1], state["decision"]
        above, ways = None, self._takeovers(turn, step.failures, facts)
        if self._may_go_up(turn):
            chances = self._parts.router.chances(step, facts) if ways else {}
            costs = {name: way.cost / 1e6 for name, way in ways.items()} or None
            above = escalate(step.failures, facts, success=chances, costs=costs)
            above = above and self._affordable(above.name, facts, self._act.standings.of(turn))
        again = not last.check.startswith("error:")  # errors were tried again where it helps
        mine = sum(failure.tier == last.tier for failure in step.failures)
        if above is None and again and mine < TOP_ATTEMPTS:
            above = next(tier for tier in facts if tier.name == last.tier)
        if above is None or self._act.exhausted(turn, state["step"], above.name):
            return self._given_up(turn, step.failures)
        kept: dict[str, Any] = {
            k: decision[k] for k in ("kind", "probabilities", "chances", WORDS) if k in decision
        }
        reason = f"{last.tier} failed {last.check}: {last.reason}"
        made: dict[str, Any] = {**kept, "stage": "escalation", "reason": reason}
        if way := ways.get(above.name):
            made |= {"handover": way.how, "costs": costs}
        if above.name == last.tier:
            made["stage"] = "again"
        return {"tier": above.name, "decision": made}

    def _takeovers(
        self, turn: Turn, failures: Sequence[Failure], facts: Sequence[TierFacts]
    ) -> dict[str, Handover]:
        """Return how each tier above the failed ones would take over; empty without prices."""
        floor = max(self._names.index(failure.tier) for failure in failures)
        ways = {tier.name: self._act.takeover(turn, tier) for tier in facts if tier.rank > floor}
        return {n: way for n, way in ways.items() if way} if all(ways.values()) else {}

    def _may_go_up(self, turn: Turn) -> bool:
        most = self._parts.router.policy.escalations
        return most is None or self._act.standings.escalations(turn.user) < most

    def _given_up(self, turn: Turn, failures: Sequence[Failure]) -> dict[str, Any]:
        tried = "; ".join(f"{f.tier}: {f.reason}" for f in failures)
        if self._parts.fallback is None:
            turn.finish("failed")
            raise TurnError(
                f"no tier could answer ({tried})", hint="set fallback= to answer something instead"
            )
        turn.add("assistant", [{"type": "text", "text": self._parts.fallback}])
        return {
            "messages": [AIMessage(self._parts.fallback)],
            "status": "fallback",
            "decision": {"stage": "fallback", "reason": tried},
        }


def _taken_up(state: State) -> bool:
    """Say whether a step of this turn has gone up: its tier then ends the turn."""
    return state["decision"].get("stage") in ("escalation", "pinned", "again")
