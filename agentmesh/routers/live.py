"""`Agent(router="live")`: the version that is live in the agent's own database, whichever it is.

A version that is activated or rolled back takes effect within half a minute, in every process.
Each process watches the requests that it routes: where they have drifted away from what the
version was trained on, its quality contract is void at once, and the database knows why.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from agentmesh.errors import AgentmeshError
from agentmesh.routers.stored import NAME, RouterVersion
from agentmesh.routers.versions import Versions
from agentmesh.routing import Router
from agentmesh.routing.policy import Policy

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Decision, FewShot, Outlook, Step, TierFacts, Verdict

EVERY_S = 30.0
"""How long a process may use a version that is live no more."""
WINDOW, LOOK_EVERY = 200, 50
"""Requests that drift is looked for in, and how often."""

_LOG = logging.getLogger("agentmesh")


class LiveRouter:
    """Routes as the live version does, and as the shipped router where there is none.

    Example:
        agent = Agent(..., memory="sqlite:///desk.db", router="live")
        agent = Agent(..., memory=memory, router=LiveRouter(memory, policy=Policy(pin_after=2)))
    """

    def __init__(
        self,
        memory: Memory,
        name: str = NAME,
        *,
        policy: Policy | None = None,
        model: FewShot | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.versions = Versions(memory, name)
        self.policy, self.model = policy or Policy(), model
        self._memory = memory
        self._clock, self._lock = clock, Lock()
        self._looked = -EVERY_S
        self._version: RouterVersion | None = None
        self._router: Router | None = None
        self._texts: deque[str] = deque(maxlen=WINDOW)
        self._seen = 0

    def admit(self, text: str, *, first: bool = True) -> Verdict:
        """Return whether a customer's message may enter."""
        return self.current().admit(text, first=first)

    def route(self, step: Step, tiers: Sequence[TierFacts]) -> Decision:
        """Return the tier for `step`, and which version chose it."""
        router = self.current()
        if not step.failures and step.after == "user":
            router = self._watched(router, step.text)
        label = self._version.label if self._version else ""
        return replace(router.route(step, tiers), version=label)

    def chances(self, step: Step, tiers: Sequence[TierFacts]) -> dict[str, float]:
        """Return how likely each tier's draft of a step is good enough."""
        return self.current().chances(step, tiers)

    @property
    def outlook(self) -> Outlook:
        """What is expected of the rest of a session."""
        return self.current().outlook

    @property
    def bar(self) -> float:
        """The probability with which a tier must suffice."""
        return self.current().bar

    def with_model(self, model: FewShot | None) -> LiveRouter:
        """Return a router like this one that asks `model` where the classifier is unsure."""
        return self._like(self.policy, model)

    def under(self, policy: Policy) -> LiveRouter:
        """Return a router like this one whose agent keeps to a policy."""
        return self._like(policy, self.model)

    def _like(self, policy: Policy, model: FewShot | None) -> LiveRouter:
        name, clock = self.versions.name, self._clock
        return LiveRouter(self._memory, name, policy=policy, model=model, clock=clock)

    def current(self) -> Router:
        """Return the router that is live now; the database is asked every half minute."""
        with self._lock:
            now = self._clock()
            if self._router is None or now - self._looked >= EVERY_S:
                self._router = self._refreshed(self._router)
                self._looked = now
            return self._router

    def _refreshed(self, router: Router | None) -> Router:
        """Return the router that is live; one that cannot be read leaves what there is in place."""
        try:
            live = self.versions.live()
            if router is not None and _same(live, self._version):
                return router
            fresh = Router.auto() if live is None else self.versions.load(live.version)
        except AgentmeshError as error:
            _LOG.warning("the live router cannot be read, the one before goes on: %s", error)
            return router or Router.auto().with_model(self.model).under(self.policy)
        if live is None or self._version is None or live.version != self._version.version:
            self._texts.clear()
            self._seen = 0
        self._version = live
        return fresh.with_model(self.model).under(self.policy)

    def _watched(self, router: Router, text: str) -> Router:
        """Return the router, its contract void if the requests of late have drifted away."""
        version, passing = self._version, router.passing
        if version is None or version.void or passing is None or passing.contract is None:
            return router
        self._texts.append(text)
        self._seen += 1
        if self._seen % LOOK_EVERY:
            return router
        found = passing.drift(list(self._texts))
        if not found.alarm:
            return router
        _LOG.warning("the contract of %s is void: %s", version.label, found.reason)
        with self._lock:
            self._version = self.versions.void(version.version, by="drift alarm", why=found.reason)
            self._router = router.changed(passing=passing.voided())
            return self._router


def _same(one: RouterVersion | None, other: RouterVersion | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.version, one.void) == (other.version, other.void)
