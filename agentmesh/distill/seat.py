"""A student's seat in an agent: which version serves a turn, which one runs beside it, how it went.

The register in the database decides; an agent whose tier is `student:NAME` sits its steps here and
takes part in the life cycle without further code. A version that is rolled back serves no more
from the next step on, in every process.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agentmesh.distill.lifecycle import Register
from agentmesh.distill.serve import StudentModel, chat_messages, spoken
from agentmesh.distill.shadow import Shadow, Shadowed
from agentmesh.distill.students import load
from agentmesh.distill.version import Version
from agentmesh.errors import AgentmeshError, ConfigError, TierError

if TYPE_CHECKING:
    from agentmesh.distill.student import Student
    from agentmesh.distill.version import State
    from agentmesh.distill.watch import Advice
    from agentmesh.memory import Memory

_LOG = logging.getLogger("agentmesh")

Evidence = Literal["turns", "feedback"]
"""What says how a run went: its checks, tools and end; or the first score that somebody gives it."""

NOTED = 20
"""A shadow's figures are stored after so many prompts."""


class Seat:
    """Where the versions of one student serve.

    Args:
        memory: whose register decides.
        name: of the student.
        canary: the share of turns that a canary serves.
        shadow: how many prompts a version in the shadow may answer.
        evidence: `turns` or `feedback`.
        base: the base model of a student that is an adapter.
    """

    def __init__(
        self,
        memory: Memory,
        name: str,
        *,
        canary: float = 0.1,
        shadow: int = 1_000,
        evidence: Evidence = "turns",
        base: Any = None,
    ) -> None:
        if not 0 < canary <= 1 or shadow < 0:
            raise ConfigError(
                f"canary={canary!r}, shadow={shadow!r}", hint="a share of turns, a count of prompts"
            )
        if evidence not in get_args(Evidence):
            raise ConfigError(f"evidence={evidence!r}", hint="'turns' or 'feedback'")
        self.name, self.evidence = name, evidence
        self._canary, self._budget, self._base = canary, shadow, base
        self._register = Register(memory)
        self._loaded: dict[str, Student | None] = {}
        self._beside: tuple[int, Shadow] | None = None
        self._lock = Lock()

    def serving(self, session: str, turn: int) -> Version | None:
        """Return the version that serves a turn; None where the next tier must."""
        versions = {version.state: version for version in self._register.versions(self.name)}
        canary = versions.get("canary")
        if canary is not None and _share(self.name, session, turn) < self._canary:
            chosen: Version | None = canary
        else:
            chosen = versions.get("live")
        return chosen if chosen is not None and self.student(chosen) is not None else None

    def student(self, version: Version) -> Student | None:
        """Return a version's student, its files verified; None (and a warning) where it is damaged."""
        with self._lock:
            if version.sha not in self._loaded:
                try:
                    self._loaded[version.sha] = load(version.intact().path, base=self._base)
                except AgentmeshError as error:
                    _LOG.warning("student %r does not serve: %s", self.name, error)
                    self._loaded[version.sha] = None
            return self._loaded[version.sha]

    def observe(self, version: int, success: float) -> None:
        """Add a run to a version's evidence; a bad one is rolled back at once."""
        self._told(version, self._register.observe(self.name, version, success))

    def heard(self, version: int, *, served: bool) -> None:
        """Count a turn in which a version was asked: one that falls silent is rolled back."""
        self._told(version, self._register.heard(self.name, version, served=served))

    def _told(self, version: int, advice: Advice) -> None:
        if advice == "rollback":
            _LOG.warning("student %r version %d was rolled back", self.name, version)

    def shadow(self) -> Shadow | None:
        """Return what lets the version in the shadow answer too; None where there is none."""
        version = self._in("shadow")
        number = version.version if version is not None else 0
        with self._lock:
            if self._beside is not None and self._beside[0] == number:
                return self._beside[1]
            self._beside = None
        if version is None or (student := self.student(version)) is None:
            return None
        seen = Shadowed(**version.facts.get("shadow", {}))
        left = self._budget - seen.seen
        if left < 1:
            return None
        told = _Noted(self._register, version, seen)
        with self._lock:
            self._beside = (number, Shadow(student, budget=left, told=told))
            return self._beside[1]

    def close(self) -> None:
        """Finish what waits in the shadow."""
        with self._lock:
            beside, self._beside = self._beside, None
        if beside is not None:
            beside[1].close()

    def _in(self, state: State) -> Version | None:
        return self._register.in_state(self.name, state)


class _Noted:
    """Stores a shadow's figures, added to those of earlier processes."""

    def __init__(self, register: Register, version: Version, before: Shadowed) -> None:
        self._register, self._version, self._before = register, version, before

    def __call__(self, seen: Shadowed, last: bool) -> None:
        if not last and seen.seen % NOTED:
            return
        counts = {k: v + getattr(self._before, k) for k, v in asdict(seen).items()}
        try:
            self._register.note(self._version.name, self._version.version, {"shadow": counts})
        except AgentmeshError as error:  # the memory may be closed: nobody waits for a shadow
            _LOG.debug("the figures of a shadow were not stored: %s", error)


class SeatModel(StudentModel):
    """The chat model of a seat: each turn is answered by the version that serves it."""

    seat: Any = None
    """Where the student sits: a `Seat`."""
    student: Any = None

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        seat: Seat = self.seat
        version = seat.serving(str(kwargs.get("session", "")), int(kwargs.get("turn", 0)))
        student = seat.student(version) if version is not None else None
        if version is None or student is None:
            raise TierError(
                f"no version of the student {seat.name!r} serves this turn",
                kind="not_found",
                reached=False,
                hint="see: agentmesh distill status",
            )
        guess = student.answer(chat_messages(messages), kwargs.get("tools") or ())
        message = spoken(guess)
        message.response_metadata[SERVED] = served(seat, version, abstained=guess.answer is None)
        return ChatResult(generations=[ChatGeneration(message=message)])


SERVED = "student"
"""The key under which an answer, and a call's decision, name the version that made it."""


def served(seat: Seat, version: Version, *, abstained: bool) -> Mapping[str, Any]:
    """Return who answered, for the ledger."""
    told = {"name": seat.name, "version": version.version, "evidence": seat.evidence}
    return {**told, "abstained": True} if abstained else told


def _share(name: str, session: str, turn: int) -> float:
    digest = hashlib.sha256(f"{name} {session} {turn}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


__all__ = ["SERVED", "Evidence", "Seat", "SeatModel", "served"]
