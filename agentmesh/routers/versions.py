"""Versions of a router in the database: saved, activated, rolled back, each step with its reason.

A version's file is a skops archive that may hold nothing but arrays and texts; it is read only if
its bytes are those that were saved. All is of one tenant.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from agentmesh import canonical
from agentmesh.errors import ConfigError, ConflictError, CorruptError
from agentmesh.memory.database import insert_once, lock
from agentmesh.memory.tables import model_files, models

if TYPE_CHECKING:
    from agentmesh.memory import Memory
    from agentmesh.routing import Router

State = Literal["candidate", "live", "retired"]
NAME = "router"
KIND = "router"


@dataclass(frozen=True, slots=True)
class RouterVersion:
    """One version: `measured` is its figure above matched random, with its interval.

    `void` is why its quality contract no longer holds, "" while it does.
    """

    name: str
    version: int
    state: State
    at: float
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The version as decisions name it."""
        return f"{self.name}@{self.version}"

    @property
    def measured(self) -> Mapping[str, float] | None:
        """What it was measured to be above matched random: `value`, `low`, `high`."""
        found: Mapping[str, float] | None = self.facts["measured"]
        return found

    @property
    def trained(self) -> Mapping[str, Any]:
        """What it was trained on."""
        found: Mapping[str, Any] = self.facts["trained"]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """The audit trail, oldest first: `at`, `from`, `to`, `by`, `why`."""
        return list(self.facts["events"])

    @property
    def void(self) -> str:
        """Why its contract no longer holds."""
        return str(self.facts.get("void", ""))


class Versions:
    """The versions of one router of a tenant.

    >>> from agentmesh.memory import Memory
    >>> Versions(Memory("sqlite://")).all()
    []
    """

    def __init__(self, memory: Memory, name: str = NAME) -> None:
        if not name or len(name) > 128:
            raise ConfigError(f"name={name!r}", hint="give the router a name such as 'router'")
        self.name = name
        self._database, self._tenant, self._clock = memory.database, memory.tenant, memory.clock

    def save(
        self,
        router: Router,
        *,
        by: str,
        why: str,
        trained: Mapping[str, Any] | None = None,
        measured: Mapping[str, float] | None = None,
        after: int | None = None,
    ) -> RouterVersion:
        """Store a router as a candidate.

        Args:
            router: what is stored: its few-shot model is not part of it.
            by: who saves it.
            why: for what reason.
            trained: on what; left out where nothing was learned.
            measured: `value`, `low` and `high` above matched random.
            after: the version that must still be the last one.

        Raises:
            ConflictError: it is not: somebody else was faster.
        """
        body = _packed(router)
        sha = hashlib.sha256(body).hexdigest()
        facts = {
            "trained": dict(trained or {}),
            "measured": dict(measured) if measured else None,
            "events": [self._event("", "candidate", by, why)],
        }

        def work(c: Connection) -> int:
            lock(c, f"routers {self._tenant} {self.name}")
            last = c.execute(select(func.max(models.c.version)).where(*self._mine())).scalar() or 0
            if after is not None and last != after:
                raise ConflictError(f"{self.name}@{last} was saved meanwhile", hint="train again")
            insert_once(c, model_files, tenant=self._tenant, sha=sha, body=body)
            row = {"tenant": self._tenant, "name": self.name, "version": last + 1}
            row |= {"kind": KIND, "state": "candidate", "facts": canonical.dumps(facts)}
            c.execute(insert(models).values(**row, path="", sha=sha, at=self._clock()))
            return int(last) + 1

        return self.get(self._database.write(work))

    def all(self) -> list[RouterVersion]:
        """Return every version, oldest first."""
        query = select(models).where(*self._mine()).order_by(models.c.version)
        return self._database.read(lambda c: [_version(row) for row in c.execute(query)])

    def get(self, version: int) -> RouterVersion:
        """Return one version."""
        found = [one for one in self.all() if one.version == version]
        if not found:
            raise ConfigError(
                f"the router {self.name!r} has no version {version!r}",
                hint="see: agentmesh route versions DATABASE",
            )
        return found[0]

    def live(self) -> RouterVersion | None:
        """Return the version that agents use, or None: they use the shipped one."""
        query = select(models).where(*self._mine(), models.c.state == "live")
        row = self._database.read(lambda c: c.execute(query).first())
        return None if row is None else _version(row)

    def load(self, version: int) -> Router:
        """Return the router of a version; its contract is void where that was noted.

        Raises:
            CorruptError: the file is not the one that was saved.
        """
        about = self.get(version)
        query = (
            select(models.c.sha, model_files.c.body)
            .join(
                model_files,
                (model_files.c.sha == models.c.sha) & (model_files.c.tenant == models.c.tenant),
            )
            .where(*self._mine(), models.c.version == version)
        )
        row = self._database.read(lambda c: c.execute(query).first())
        if row is None or hashlib.sha256(row.body).hexdigest() != row.sha:
            raise CorruptError(
                f"the file of {about.label} is not the one that was saved",
                hint="roll back: agentmesh route rollback DATABASE",
            )
        router = _unpacked(row.body)
        if about.void and router.passing is not None:
            return router.changed(passing=router.passing.voided())
        return router

    def activate(self, version: int, *, by: str, why: str) -> RouterVersion:
        """Make a version the live one; what was live is retired.

        Raises:
            ConfigError: it has learned something, and was not measured to beat matched random.
            CorruptError: its file is not the one that was saved.
        """
        about = self.get(version)
        if about.state == "live":
            raise ConfigError(f"{about.label} is live already", hint="activate another one")
        if about.trained and (about.measured is None or about.measured["low"] <= 0):
            low = "never measured" if about.measured is None else f"{about.measured['low']:+.3f}"
            raise ConfigError(
                f"{about.label} is not proven to beat a random choice at the same cost ({low})",
                hint="train it on more labels",
            )
        self.load(version)

        def work(c: Connection) -> None:
            lock(c, f"routers {self._tenant} {self.name}")
            for row in self._in_state(c, "live"):
                self._move(c, row, "retired", by, f"version {version} took its place")
            self._move(c, self._row(c, version), "live", by, why)

        self._database.write(work)
        return self.get(version)

    def rollback(self, *, by: str, why: str) -> RouterVersion | None:
        """Retire the live version; return the one before it, live again, or None: the shipped."""

        def work(c: Connection) -> int | None:
            lock(c, f"routers {self._tenant} {self.name}")
            fallen = self._in_state(c, "live")
            if not fallen:
                raise ConfigError(
                    f"no version of the router {self.name!r} is live", hint="nothing to undo"
                )
            self._move(c, fallen[0], "retired", by, why)
            before = [row for row in self._in_state(c, "retired") if _was_replaced(row)]
            if not before:
                return None
            back = f"version {fallen[0].version} was rolled back"
            self._move(c, before[-1], "live", by, back)
            return int(before[-1].version)

        number = self._database.write(work)
        return None if number is None else self.get(number)

    def void(self, version: int, *, by: str, why: str) -> RouterVersion:
        """Note that a version's contract no longer holds: it abstains upward from now on."""

        def work(c: Connection) -> None:
            row = self._row(c, version)
            if not canonical.loads(row.facts).get("void"):
                self._move(c, row, row.state, by, f"contract void: {why}", void=why)

        self.get(version)
        self._database.write(work)
        return self.get(version)

    def _move(self, c: Connection, row: Any, to: str, by: str, why: str, **facts: Any) -> None:
        old = canonical.loads(row.facts)
        events = [*old["events"], self._event(row.state, to, by, why)]
        moved = c.execute(
            update(models)
            .where(models.c.id == row.id, models.c.state == row.state)
            .values(state=to, facts=canonical.dumps({**old, **facts, "events": events}))
        )
        if moved.rowcount != 1:
            raise ConflictError(f"somebody else moved {row.name}@{row.version}")

    def _event(self, old: str, new: str, by: str, why: str) -> dict[str, Any]:
        if not by or not why:
            raise ConfigError(
                f"by={by!r}, why={why!r}", hint="say who does it, and for what reason"
            )
        return {"at": self._clock(), "from": old, "to": new, "by": by, "why": why}

    def _mine(self) -> tuple[Any, ...]:
        return models.c.tenant == self._tenant, models.c.name == self.name, models.c.kind == KIND

    def _in_state(self, c: Connection, state: str) -> list[Any]:
        query = select(models).where(*self._mine(), models.c.state == state)
        return list(c.execute(query.order_by(models.c.version)))

    def _row(self, c: Connection, version: int) -> Any:
        query = select(models).where(*self._mine(), models.c.version == version)
        return c.execute(query).one()


def _version(row: Any) -> RouterVersion:
    return RouterVersion(row.name, row.version, row.state, row.at, canonical.loads(row.facts))


def _was_replaced(row: Any) -> bool:
    """Return whether a version was retired only because another took its place."""
    last = canonical.loads(row.facts)["events"][-1]
    return bool(last["from"] == "live" and last["why"].endswith("took its place"))


def _packed(router: Router) -> bytes:
    with tempfile.TemporaryDirectory(prefix="agentmesh-") as folder:
        path = Path(folder, "router.skops")
        router.save(path)
        return path.read_bytes()


def _unpacked(body: bytes) -> Router:
    from agentmesh.routing import Router

    with tempfile.TemporaryDirectory(prefix="agentmesh-") as folder:
        path = Path(folder, "router.skops")
        path.write_bytes(body)
        return Router.load(path)
