"""How every model is doing, as the ledger tells it: any process can say, and a new one knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from agentmesh.errors import ConfigError
from agentmesh.memory.tables import calls
from agentmesh.routing import Pace
from agentmesh.routing.health import Health, ModelHealth, Past

if TYPE_CHECKING:
    from agentmesh.memory import Memory

SINCE_S = 3_600.0
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a tier's model is doing; all that it counts is of the time that was asked about.

    `health` says whether it is left alone, since when it has failed, and why. `answered` requests
    got a whole answer, of which the checks refused `refused`; `errors` counts the others by kind.
    `requests_per_minute` and `tokens_per_minute` are those of the last minute; the latencies, in
    seconds, those of whole answers (None without one).
    """

    tier: str
    model: str
    health: ModelHealth
    answered: int
    refused: int
    escalated: int
    errors: Mapping[str, int]
    requests_per_minute: int
    tokens_per_minute: int
    median_s: float | None
    p95_s: float | None
    cost: int | None
    checks: Mapping[str, int] = field(default_factory=dict)


def model_status(
    memory: Memory, *, since_s: float = SINCE_S, now: float | None = None
) -> list[ModelStatus]:
    """Return how each model has done of late, by tier and model, from the ledger alone.

    >>> from agentmesh.memory import Memory
    >>> model_status(Memory("sqlite://"))
    []
    """
    if not since_s > 0:
        raise ConfigError(f"since_s={since_s!r}", hint="give seconds above 0")
    now = memory.clock() if now is None else now
    rows = _rows(memory, now - since_s)
    health = _health(rows, now)
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        groups.setdefault((row.tier, row.model), []).append(row)
    return [_status(*key, groups[key], health, now) for key in sorted(groups)]


def known_health(memory: Memory) -> Health:
    """Return the health of all models as the ledger of the last minutes tells it."""
    health = Health(clock=memory.clock)
    health.replay(_past(_rows(memory, memory.clock() - 5 * _MINUTE_S)))
    return health


def known_pace(memory: Memory, model: str) -> Pace:
    """Return what all processes have sent to a model in the last minute, as the ledger tells it.

    A request is in the ledger once it was answered: those under way elsewhere are not counted.
    """
    now = memory.clock()
    at = [now]
    pace = Pace(lambda: at[0])
    query = (
        select(
            calls.c.started_at,
            calls.c.fresh + calls.c.read + calls.c.write + calls.c.write_long + calls.c.output,
        )
        .where(calls.c.tenant == memory.tenant, calls.c.started_at > now - _MINUTE_S)
        .where(calls.c.model == model)
        .order_by(calls.c.started_at)
    )
    for started, tokens in memory.database.read(lambda c: c.execute(query).all()):
        at[0] = started
        pace.sent(model, tokens)
    at[0] = now
    return pace


def _rows(memory: Memory, since: float) -> Sequence[Any]:
    query = (
        select(
            calls.c.tier,
            calls.c.model,
            calls.c.outcome,
            calls.c.started_at,
            calls.c.latency_s,
            calls.c.cost,
            (calls.c.fresh + calls.c.read + calls.c.write + calls.c.write_long).label("input"),
            calls.c.output,
            (calls.c.decision.contains('"stage":"escalation"') & (calls.c.purpose == "act")).label(
                "escalated"
            ),
        )
        .where(calls.c.tenant == memory.tenant, calls.c.started_at > since)
        .order_by(calls.c.started_at, calls.c.id)
    )
    return memory.database.read(lambda connection: connection.execute(query).all())


def _past(rows: Sequence[Any]) -> list[Past]:
    return [Past(row.model, row.outcome, row.started_at + row.latency_s) for row in rows]


def _health(rows: Sequence[Any], now: float) -> dict[str, ModelHealth]:
    health = Health(clock=lambda: now)
    health.replay(_past(rows))
    return {one.model: one for one in health.status()}


def _status(
    tier: str, model: str, rows: Sequence[Any], health: Mapping[str, ModelHealth], now: float
) -> ModelStatus:
    whole = [row for row in rows if not row.outcome.startswith("error:")]
    refused = [row for row in whole if row.outcome != "ok"]
    errors = Counter(row.outcome.removeprefix("error:") for row in rows if row not in whole)
    last = [row for row in rows if row.started_at > now - _MINUTE_S]
    took = sorted(row.latency_s for row in whole)
    costs = [row.cost for row in rows]
    return ModelStatus(
        tier=tier,
        model=model,
        health=health.get(model) or ModelHealth(model, "closed", 0, 0.0, ""),
        answered=len(whole),
        refused=len(refused),
        escalated=sum(bool(row.escalated) for row in whole),
        errors=dict(errors),
        requests_per_minute=len(last),
        tokens_per_minute=sum(row.input + row.output for row in last),
        median_s=median(took) if took else None,
        p95_s=(quantiles(took, n=20, method="inclusive")[-1] if len(took) > 1 else took[0])
        if took
        else None,
        cost=None if None in costs else sum(costs),
        checks=dict(Counter(row.outcome.removeprefix("check:") for row in refused)),
    )


__all__ = ["ModelStatus", "known_health", "known_pace", "model_status"]
