"""How routing is going: every model's health, every tier's share, and what the live version rests on.

All of it is read from the ledger, so it is the same from any process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.routers.lessons import lessons, said
from agentmesh.routers.stored import NAME, RouterVersion
from agentmesh.routers.training import watch
from agentmesh.routers.versions import Verifiers, Versions, beside
from agentmesh.status import ModelStatus, model_status

if TYPE_CHECKING:
    from agentmesh.memory import Call, Memory
    from agentmesh.routing import Drift


class TierStatus(NamedTuple):
    """A tier's drafts: accepted ones with their share of all accepted, those that checks refused."""

    tier: str
    accepted: int
    share: float
    refused: int
    cost: int | None


class Status(NamedTuple):
    """What `agentmesh route status` shows."""

    models: list[ModelStatus]
    tiers: list[TierStatus]
    turns: int
    escalated: int
    blocked: int
    unreviewed: int
    version: RouterVersion | None
    drift: Drift | None
    verifier: RouterVersion | None = None


def status(memory: Memory, *, name: str = NAME, hours: float = 24.0) -> Status:
    """Return how routing went in the last hours; a drift alarm voids the live contract."""
    since = memory.clock() - 3600 * hours
    made = [call for call in memory.ledger.calls() if call.started_at >= since]
    acts = [call for call in made if call.purpose == "act"]
    messages = [one for one in said(memory) if one.at >= since]
    versions = Versions(memory, name)
    live = versions.live()
    drifted = None
    if live is not None and live.trained:
        drifted = watch(versions, lessons(memory, tier=live.trained["tier"]).rows)
        live = versions.get(live.version)  # an alarm has voided it
    blocked = [one for one in messages if one.blocked]
    return Status(
        model_status(memory, since_s=3600 * hours),
        _tiers(acts),
        len({(call.session, call.turn) for call in acts}),
        len({(c.session, c.turn) for c in acts if c.decision.get("stage") == "escalation"}),
        len(blocked),
        sum(not one.label for one in blocked),
        live,
        drifted,
        Verifiers(memory, beside(name)).live(),
    )


def _tiers(acts: Sequence[Call]) -> list[TierStatus]:
    accepted = Counter(call.tier for call in acts if call.outcome == "ok")
    refused = Counter(call.tier for call in acts if call.outcome.startswith("check:"))
    costs: dict[str, Any] = {}
    for call in acts:
        before = costs.get(call.tier, 0)
        costs[call.tier] = None if None in (before, call.cost) else before + call.cost
    total = max(1, sum(accepted.values()))
    return [
        TierStatus(tier, accepted[tier], accepted[tier] / total, refused[tier], costs[tier])
        for tier in sorted(costs, key=lambda tier: -accepted[tier])
    ]
