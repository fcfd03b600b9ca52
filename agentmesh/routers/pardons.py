"""A block that was wrong: the message is let in from now on, and the filter keeps its promise.

The spam filter states a rate of false alarms. Those that people have reported count against it,
among all harmless messages that are known: where the rate is no longer proven, the threshold rises
to just above the reported message of the lowest score, until it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agentmesh.routers.lessons import Said, review, said
from agentmesh.routers.stored import NAME, RouterVersion
from agentmesh.routers.training import BLOCKED
from agentmesh.routers.versions import Versions

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Router, SpamFilter

RATE = 0.01
"""The rate of false alarms that the shipped filter states."""


class Pardon(NamedTuple):
    """What came of a review: the version that is live since, if it changed what is blocked.

    `threshold` is the spam filter's before and after, in log-odds; None where there is no filter.
    """

    message: Said
    version: RouterVersion | None
    threshold: tuple[float, float] | None


def settle(
    memory: Memory,
    message: str,
    label: str,
    *,
    by: str,
    why: str,
    name: str = NAME,
    rate: float = RATE,
) -> Pardon:
    """Say what a blocked message really was, and make what follows from it live.

    A request kind lets the message in, and those who send it again; `spam` and `off-topic` say
    that the block was right, or take a pardon back. Each changes at most one version, which
    `rollback` undoes; the label stays for the next training.
    """
    from agentmesh.routing import Router
    from agentmesh.routing.router import fingerprint

    judged = review(memory, message, label, by=by, why=why)
    versions = Versions(memory, name)
    live = versions.live()
    router = versions.load(live.version) if live else Router.auto()
    messages = said(memory)
    wrong = [one for one in messages if one.blocked and one.label and one.label not in BLOCKED]
    harmless = sum(not one.blocked and one.turn == 1 for one in messages)
    spam = shifted(router, wrong, harmless, rate)
    pardons = frozenset(fingerprint(one.text) for one in wrong)
    threshold = None
    if spam is not None and router.spam is not None:
        threshold = (router.spam.threshold, spam.threshold)
    if pardons == router.pardons and (threshold is None or threshold[0] == threshold[1]):
        return Pardon(judged, None, threshold)
    changed = router.changed(spam=spam, pardons=pardons)
    reason = f"{message} is {label}: {why}"
    trained, measured = (live.trained, live.measured) if live else (None, None)
    saved = versions.save(changed, by=by, why=reason, trained=trained, measured=measured)
    return Pardon(judged, versions.activate(saved.version, by=by, why=reason), threshold)


def shifted(router: Router, wrong: Sequence[Said], harmless: int, rate: float) -> SpamFilter | None:
    """Return the router's filter, its threshold raised as far as the false alarms ask for."""
    from agentmesh.routing import upper_bound

    spam = router.spam
    if spam is None or not wrong:
        return spam
    scores = sorted(router.spam_margin(one.text) for one in wrong)
    total = spam.harmless + harmless + len(scores)
    threshold = spam.threshold
    while True:
        above = [score for score in scores if score >= threshold]
        alarms = spam.false_alarms + len(above)
        bound = upper_bound(alarms, total, spam.confidence)
        if bound <= rate or not above:
            return replace(spam, threshold=threshold, bound=bound)
        threshold = math.nextafter(above[0], math.inf)
