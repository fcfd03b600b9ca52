"""The check that uses the verifier that is live in an agent's own database, whichever it is.

Where none is, every draft passes. A version that is activated or rolled back takes effect within
half a minute, in every process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from agentmesh.errors import AgentmeshError
from agentmesh.routers.live import EVERY_S
from agentmesh.routers.versions import VERIFIER, Verifiers
from agentmesh.routing.drafts import EFFECTS, TEXT, CheckContext, Draft, checked_bars

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Verifier

_LOG = logging.getLogger("agentmesh")


class LiveVerifier:
    """Judges drafts as the live verifier does.

    `bars` are the chance of being wrong from which a draft is refused, by side effect, `text` or
    tool; those that the version was trained with, if left out.

    Example:
        agent = Agent(..., memory=memory, router="live")  # has one
        agent = Agent(..., memory=memory, checks=[LiveVerifier(memory, bars={"refund": 0.1})])
    """

    name = "verifier"

    def __init__(
        self,
        memory: Memory,
        name: str = VERIFIER,
        *,
        bars: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.versions = Verifiers(memory, name)
        self._bars = None if bars is None else dict(bars)
        checked_bars(self._bars or {}, {}, lower_is_stricter=True)
        self.tools = frozenset(self._bars or ()) - {TEXT, *EFFECTS}
        self._clock, self._lock = clock, Lock()
        self._looked = -EVERY_S
        self._version = 0
        self._verifier: Verifier | None = None

    def __call__(self, draft: Draft, context: CheckContext, /) -> str | None:
        """Return why the draft is refused, or None."""
        verifier = self.current()
        return None if verifier is None else verifier(draft, context)

    def current(self) -> Verifier | None:
        """Return the verifier that is live now; the database is asked every half minute."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= EVERY_S:
                self._refresh()
                self._looked = now
            return self._verifier

    def _refresh(self) -> None:
        """Take what is live; one that cannot be read leaves what there is in place."""
        try:
            live = self.versions.live()
            number = live.version if live else 0
            if number == self._version:
                return
            self._verifier = self._barred(self.versions.load(number)) if live else None
            self._version = number
        except AgentmeshError as error:
            _LOG.warning("the live verifier cannot be read, the one before goes on: %s", error)

    def _barred(self, verifier: Verifier) -> Verifier:
        if self._bars is None:
            return verifier
        return type(verifier)(verifier.model, self._bars, tier=verifier.tier)
