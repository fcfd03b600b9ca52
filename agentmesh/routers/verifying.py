"""A new verifier from the drafts that the ledger has labelled: the rules are the router's.

Conversations and near-duplicates never judge each other; what is not proven better than the base
rate, or than the version that is live, stays a candidate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError, ConflictError
from agentmesh.routers.drafts import Labelled, drafts
from agentmesh.routers.lessons import cheap_tier
from agentmesh.routers.training import LEAST, Run, new_labels, settled
from agentmesh.routers.versions import VERIFIER, Verifiers

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routers.stored import RouterVersion
    from agentmesh.routing import Interval

LEAST_WRONG = 10
"""Wrong drafts without which a verifier cannot be told from luck."""


def train_verifier(
    memory: Memory,
    *,
    name: str = VERIFIER,
    tier: str = "",
    agent: str = "",
    least: int = LEAST,
    by: str = "training",
) -> Run:
    """Train a verifier on the ledger's drafts, and activate what is proven better.

    It must take away some of the squared error of the base rate, and of the live version on the
    drafts since that was trained, with the whole 95% interval above zero.

    Args:
        memory: whose ledger it is.
        name: of the verifier.
        tier: whose drafts it judges; by default that from which most steps were escalated.
        agent: only this agent's drafts.
        least: labels that a run needs beyond those of the last.
        by: who is written into the audit trail.
    """
    if least < 1:
        raise ConfigError(f"least={least!r}", hint="give 1 or more")
    versions = Verifiers(memory, name)
    last = max((one.version for one in versions.all()), default=0)
    tier = cheap_tier(memory, tier=tier, agent=agent)
    rows = drafts(memory, tier=tier, agent=agent)
    wrong = sum(row.wrong for row in rows)
    if (new := new_labels(versions.all(), len(rows))) < least:
        return Run("nothing", f"{new} new labels, {least} are needed", len(rows))
    if min(wrong, len(rows) - wrong) < LEAST_WRONG:
        reason = f"{wrong} of {len(rows)} drafts were wrong: {LEAST_WRONG} of each are needed"
        return Run("nothing", reason, len(rows))
    try:
        saved = _trained(versions, rows, tier, by, last)
    except ConflictError as error:
        return Run("nothing", str(error), len(rows))
    return settled(versions, saved, f"above {saved.trained['against']}", len(rows), by)


def _trained(
    versions: Verifiers, rows: Sequence[Labelled], tier: str, by: str, last: int
) -> RouterVersion:
    """Save a version that has learned from the drafts, with what was measured out of fold."""
    from agentmesh.routing import Verifier, auroc, clusters
    from agentmesh.routing.evaluation import skill

    wrong = [row.wrong for row in rows]
    names = clusters([row.row.question for row in rows], [row.session for row in rows])
    groups = [str(one) for one in names]
    fitted = Verifier.cross_fit([row.row for row in rows], wrong, groups=groups, tier=tier)
    scores = fitted.scores.tolist()
    measured, against = skill(scores, wrong, groups=groups), "the base rate"
    if measured.low > 0 and (live := versions.live()) is not None:
        against = live.label
        measured = _beside(versions, live, rows, scores, groups) or measured
    trained: dict[str, Any] = {
        "tier": tier,
        "rows": len(rows),
        "failures": sum(wrong),
        "labels": len(rows),
        "by": dict(Counter(row.why for row in rows)),
        "until": max(row.at for row in rows),
        "auroc": round(auroc(fitted.scores, wrong), 4),
        "against": against,
    }
    why = f"trained on {len(rows)} drafts, {sum(wrong)} of them wrong"
    return versions.save(
        fitted.verifier, by=by, why=why, trained=trained, measured=measured._asdict(), after=last
    )


def _beside(
    versions: Verifiers,
    live: RouterVersion,
    rows: Sequence[Labelled],
    scores: Sequence[float],
    groups: Sequence[str],
) -> Interval | None:
    """Return the skill above the live version's, on the drafts that it was not trained on.

    None where it cannot be read or judges another tier: then there is nothing to be better than.
    """
    from agentmesh.routing.evaluation import Interval, skill

    try:
        incumbent = versions.load(live.version)
    except ConfigError:
        return None
    if incumbent.tier != live.trained.get("tier"):
        return None
    since = [i for i, row in enumerate(rows) if row.at > live.trained.get("until", live.at)]
    wrong = [rows[i].wrong for i in since]
    if not any(wrong) or all(wrong):
        return Interval(0.0, 0.0, 0.0)
    rival = [incumbent.wrong(rows[i].row) for i in since]
    mine, units = [scores[i] for i in since], [groups[i] for i in since]
    return skill(mine, wrong, rival=rival, groups=units)
