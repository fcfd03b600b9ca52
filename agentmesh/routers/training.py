"""A new version from what the ledger has taught since the last: one command, safe in cron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError, ConflictError
from agentmesh.routers.lessons import Lesson, Lessons, Said, lessons, said
from agentmesh.routers.stored import NAME, RouterVersion, Stored
from agentmesh.routers.versions import Versions

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Drift, Router

LEAST = 50
"""New labels without which a training run does nothing."""
RECENT = 400
"""Turns that drift is looked for in."""


class Run(NamedTuple):
    """What a training run came to: `done` is `activated`, `kept` (not proven better) or `nothing`."""

    done: str
    reason: str
    labels: int
    version: RouterVersion | None = None
    drift: Drift | None = None


def train(
    memory: Memory,
    *,
    name: str = NAME,
    tier: str = "",
    agent: str = "",
    alpha: float | None = None,
    confidence: float = 0.9,
    least: int = LEAST,
    by: str = "training",
) -> Run:
    """Train on the ledger, and activate what is proven to beat a random choice at equal cost.

    Nothing is done where there are fewer than `least` labels since the last run, or where another
    run has saved a version in the meantime. A drift alarm on the live version voids its contract,
    whatever comes of the training.

    Args:
        memory: whose ledger it is.
        name: of the router.
        tier: the cheap tier; by default the one from which most steps were escalated.
        agent: only this agent's turns.
        alpha: with a quality contract of so many additional failures at most.
        confidence: of the contract.
        least: labels that a run needs.
        by: who is written into the audit trail.
    """
    if least < 1:
        raise ConfigError(f"least={least!r}", hint="give 1 or more")
    versions = Versions(memory, name)
    last = max((one.version for one in versions.all()), default=0)
    known = lessons(memory, tier=tier, agent=agent)
    reviewed = [one for one in said(memory) if one.label]
    found = watch(versions, known.rows)
    labels = len(known.rows) + len(reviewed)
    if (new := new_labels(versions.all(), labels)) < least:
        return Run("nothing", f"{new} new labels, {least} are needed", labels, drift=found)
    failed = sum(not row.passed for row in known.rows)
    if failed in (0, len(known.rows)):
        reason = f"{failed} of {len(known.rows)} turns failed: nothing to tell apart"
        return Run("nothing", reason, labels, drift=found)
    try:
        saved = _trained(versions, known, reviewed, (alpha, confidence), by, last)
    except ConflictError as error:
        return Run("nothing", str(error), labels, drift=found)
    return settled(versions, saved, "above matched random", labels, by)._replace(drift=found)


def new_labels(versions: Sequence[RouterVersion], labels: int) -> int:
    """Return how many labels have come since the last training."""
    return labels - max((one.trained.get("labels", 0) for one in versions), default=0)


def settled(versions: Stored[Any], saved: RouterVersion, what: str, labels: int, by: str) -> Run:
    """Activate a version that was just trained, if it is proven better; return what came of it."""
    measured = saved.measured or {}
    interval = "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**measured)
    if not measured["low"] > 0:
        return Run("kept", f"{what} by {interval}: not proven", labels, saved)
    reason = f"{what} by {interval}"
    return Run("activated", reason, labels, versions.activate(saved.version, by=by, why=reason))


def watch(versions: Versions, rows: Sequence[Lesson]) -> Drift | None:
    """Return how the turns since the live version have drifted; an alarm voids its contract."""
    live = versions.live()
    passing = versions.load(live.version).passing if live else None
    if live is None or passing is None:
        return None
    recent = [row for row in rows if row.at > live.trained.get("until", live.at)][-RECENT:]
    if not recent:
        return None
    found = passing.drift([row.text for row in recent])
    worse = _fails_more(live.trained, [not row.passed for row in recent])
    if worse:
        why = worse if not found.alarm else f"{worse}; {found.reason}"
        found = type(found)(found.score_shift, found.unseen_words, True, why)
    if found.alarm:
        versions.void(live.version, by="drift alarm", why=found.reason)
    return found


def _fails_more(trained: Any, failed: Sequence[bool]) -> str:
    """Return words on a failure rate that is provably above that of training, else ""."""
    from agentmesh.routing import upper_bound

    rows, failures = int(trained["rows"]), int(trained["failures"])
    least = 1 - upper_bound(len(failed) - sum(failed), len(failed), 0.99)
    if least <= upper_bound(failures, rows, 0.99):
        return ""
    share = sum(failed) / len(failed)
    return f"{share:.0%} of {len(failed)} drafts fail, in training {failures / rows:.0%}: retrain"


def _trained(
    versions: Versions,
    known: Lessons,
    reviewed: Sequence[Said],
    contract: tuple[float | None, float],
    by: str,
    last: int,
) -> RouterVersion:
    """Save a version that has learned the lessons, with what was measured out of fold."""
    from agentmesh.routing import Passing, better_than_random, clusters

    tier, rows = known
    texts = [row.text for row in rows]
    groups = [str(one) for one in clusters(texts, [row.session for row in rows])]
    passed, strong = [row.passed for row in rows], [row.strong for row in rows]
    fitted = Passing.cross_fit(
        tier, texts, passed, groups=groups, alpha=contract[0], confidence=contract[1]
    )
    above = better_than_random(fitted.fails, passed, strong, groups=groups)
    router = _base(versions, reviewed).changed(passing=fitted.passing)
    trained = {
        "tier": tier,
        "rows": len(rows),
        "failures": len(rows) - sum(passed),
        "reviews": len(reviewed),
        "labels": len(rows) + len(reviewed),
        "until": max(row.at for row in rows),
        "contract": fitted.passing.contract._asdict() if fitted.passing.contract else None,
    }
    why = f"trained on {len(rows)} turns and {len(reviewed)} reviews"
    return versions.save(
        router, by=by, why=why, trained=trained, measured=above._asdict(), after=last
    )


def _base(versions: Versions, reviewed: Sequence[Said]) -> Router:
    """Return the router to build on; reviews are learned beside the shipped examples."""
    from agentmesh.routing import Example, Router, seeds
    from agentmesh.routing.router import fingerprint

    live = versions.live()
    router = versions.load(live.version) if live else Router.auto()
    if not reviewed:
        return router
    own = [Example(one.text, one.label, one.session) for one in reviewed]
    fresh = Router.train([*seeds(), *own], rules=router.rules)
    pardons = {fingerprint(one.text) for one in reviewed if one.label not in BLOCKED}
    return router.changed(classifier=fresh.classifier, spam=fresh.spam, pardons=pardons)


BLOCKED = ("spam", "off-topic")
"""Labels by which a person says that a block was right."""
