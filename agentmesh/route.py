"""The `route` node: which tier drafts next, why, and how it is told what happened so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from agentmesh.act import Act, step_of
from agentmesh.errors import TurnError
from agentmesh.prompt import Marks, Prompt, Segment
from agentmesh.routing import Decision, Failure, FewShot, Step, TierFacts, escalate
from agentmesh.routing.choice import choose, step_usd
from agentmesh.routing.fewshot import prefix
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
            self._expect(turn, step, facts)
            return {"decision": {**state["decision"], "stage": "pinned", "reason": reason}}
        _ASKING.set((state, turn))
        chosen = self._chosen(turn, step, facts)
        return {"tier": chosen.tier, "decision": chosen.record()}

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
        decision = self._router.route(step, facts)
        if len(facts) == 1 or decision.tier not in self._names:
            return decision
        chances = self._expect(turn, step, facts)
        standing = self._act.standings.of(turn)
        most = self._parts.router.policy.pin_after
        floor = standing.floor(decision.kind, self._names, most)
        if self._names.index(decision.tier) < floor:
            reason = (
                f"{most} drafts of a {decision.kind} step have failed below {self._names[floor]}"
                " in this epoch"
            )
            return replace(decision, tier=self._names[floor], stage="pinned", reason=reason)
        return self._guarded(decision, step, facts, chances, standing)

    def _guarded(
        self,
        decision: Decision,
        step: Step,
        facts: Sequence[TierFacts],
        chances: Mapping[str, float],
        standing: Standing,
    ) -> Decision:
        """Return the decision, or the best single tier where the session would cost too much more.

        Before anything has failed, what is expected decides. Once a draft was lost, another one is
        risked only where losing it too would stay within the limit, whatever is expected. A step
        is never held to a tier that is likely to fail it.
        """
        guard, router = standing.guard, self._router
        if guard is None or not chances:
            return decision
        best = guard.best
        enough = chances.get(best, 0.0) >= router.bar or best == self._names[-1]
        named = {tier.name: tier for tier in facts}
        if best == decision.tier or not enough or not named[best].available:
            return decision
        risk = step_usd(named[decision.tier], step.prompt_tokens, router.outlook)
        spent = bool(standing.failed) and not guard.allows(risk)
        if not spent and not choose(step.prompt_tokens, facts, chances, router.outlook, guard).held:
            return decision
        reason = (
            f"the session has cost ${guard.paid:.4f}, {best} alone"
            f" ${guard.alone[best]:.4f}: no more than {guard.limit:.0%} above it"
        )
        return replace(decision, tier=best, stage="guard", reason=reason)

    def _expect(self, turn: Turn, step: Step, facts: Sequence[TierFacts]) -> Mapping[str, float]:
        """Keep what is known of the step for the account of it; return the tiers' chances."""
        if len(facts) == 1 or any(tier.prices is None for tier in facts):
            return {}
        chances = self._parts.router.chances(step, facts)
        standing = self._act.standings.of(turn)
        standing.expected = Expected(facts, chances, step.prompt_tokens)
        return chances

    def _escalated(
        self, state: State, turn: Turn, step: Step, facts: Sequence[TierFacts]
    ) -> dict[str, Any]:
        last, decision = step.failures[-1], state["decision"]
        above, ways = None, self._takeovers(turn, step.failures, facts)
        if self._may_go_up(turn):
            chances = self._parts.router.chances(step, facts) if ways else {}
            costs = {name: way.cost / 1e6 for name, way in ways.items()} or None
            above = escalate(step.failures, facts, success=chances, costs=costs)
        again = not last.check.startswith("error:")  # errors were tried again where it helps
        mine = sum(failure.tier == last.tier for failure in step.failures)
        if above is None and again and mine < TOP_ATTEMPTS:
            above = next(tier for tier in facts if tier.name == last.tier)
        if above is None or self._act.exhausted(turn, state["step"], above.name):
            return self._given_up(turn, step.failures)
        kept: dict[str, Any] = {
            k: decision[k] for k in ("kind", "probabilities", "chances") if k in decision
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
