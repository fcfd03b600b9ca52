"""Versions of routers and verifiers in the database: saved, activated, rolled back, and why.

A version's file is a skops archive that may hold nothing but arrays and texts; it is read only if
its bytes are those that were saved. All is of one tenant.
"""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from agentmesh import canonical
from agentmesh.errors import ConfigError, ConflictError, CorruptError
from agentmesh.memory.database import insert_once, lock
from agentmesh.memory.tables import model_files, models

if TYPE_CHECKING:
    from agentmesh.memory import Memory

State = Literal["candidate", "live", "retired"]
NAME = "router"
"""The router of an agent that says no other name."""


class Storable(Protocol):
    """What is kept as a file: `agentmesh.routing`'s routers and verifiers."""

    def save(self, path: str | Path) -> None:
        """Write it to one file that holds no code."""
        ...


M = TypeVar("M", bound=Storable)


@dataclass(frozen=True, slots=True)
class RouterVersion:
    """One version of a router, or of a verifier.

    `measured` is what it was proven by, with its interval: a router's area above matched random, a
    verifier's skill above the base rate, or above the version before it. `void` is why a router's
    quality contract no longer holds, "" while it does.
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
        """What it was measured to be above what it must beat: `value`, `low`, `high`."""
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


class Stored(ABC, Generic[M]):
    """The versions of one model of a tenant; `kind` says of which sort it is."""

    kind: str
    rival: str
    """What a version must be proven to beat before it may decide anything."""
    without: str
    """What agents use where no version is live."""

    def __init__(self, memory: Memory, name: str) -> None:
        if not name or len(name) > 128:
            raise ConfigError(
                f"name={name!r}", hint=f"give the {self.kind} a name such as {self.kind!r}"
            )
        self.name = name
        self._database, self._tenant, self._clock = memory.database, memory.tenant, memory.clock

    def save(
        self,
        model: M,
        *,
        by: str,
        why: str,
        trained: Mapping[str, Any] | None = None,
        measured: Mapping[str, float] | None = None,
        after: int | None = None,
    ) -> RouterVersion:
        """Store a model as a candidate.

        Args:
            model: what is stored: a router's few-shot model is not part of it.
            by: who saves it.
            why: for what reason.
            trained: on what; left out where nothing was learned.
            measured: `value`, `low` and `high` above what it must beat.
            after: the version that must still be the last one.

        Raises:
            ConflictError: it is not: somebody else was faster.
        """
        body = _packed(model)
        sha = hashlib.sha256(body).hexdigest()
        facts = {
            "trained": dict(trained or {}),
            "measured": dict(measured) if measured else None,
            "events": [self._event("", "candidate", by, why)],
        }

        def work(c: Connection) -> int:
            lock(c, f"{self.kind}s {self._tenant} {self.name}")
            last = c.execute(select(func.max(models.c.version)).where(*self._mine())).scalar() or 0
            if after is not None and last != after:
                raise ConflictError(f"{self.name}@{last} was saved meanwhile", hint="train again")
            insert_once(c, model_files, tenant=self._tenant, sha=sha, body=body)
            row = {"tenant": self._tenant, "name": self.name, "version": last + 1}
            row |= {"kind": self.kind, "state": "candidate", "facts": canonical.dumps(facts)}
            c.execute(insert(models).values(**row, path="", sha=sha, at=self._clock()))
            return int(last) + 1

        return self.get(self._database.write(work))

    def save_file(self, path: Path, *, by: str, why: str) -> RouterVersion:
        """Store what a file holds as a candidate; a foreign or tampered file is refused."""
        return self.save(self._read(path), by=by, why=why)

    def all(self) -> list[RouterVersion]:
        """Return every version, oldest first."""
        query = select(models).where(*self._mine()).order_by(models.c.version)
        return self._database.read(lambda c: [_version(row) for row in c.execute(query)])

    def get(self, version: int) -> RouterVersion:
        """Return one version."""
        found = [one for one in self.all() if one.version == version]
        if not found:
            raise ConfigError(
                f"the {self.kind} {self.name!r} has no version {version!r}",
                hint=f"see: agentmesh route versions DATABASE{self._flag}",
            )
        return found[0]

    def live(self) -> RouterVersion | None:
        """Return the version that agents use, or None."""
        query = select(models).where(*self._mine(), models.c.state == "live")
        row = self._database.read(lambda c: c.execute(query).first())
        return None if row is None else _version(row)

    def load(self, version: int) -> M:
        """Return the model of a version.

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
                hint=f"roll back: agentmesh route rollback DATABASE{self._flag}",
            )
        with tempfile.TemporaryDirectory(prefix="agentmesh-") as folder:
            path = Path(folder, f"{self.kind}.skops")
            path.write_bytes(row.body)
            return self._read(path)

    def activate(self, version: int, *, by: str, why: str) -> RouterVersion:
        """Make a version the live one; what was live is retired.

        Raises:
            ConfigError: it has learned something, and was not measured to beat what it must.
            CorruptError: its file is not the one that was saved.
        """
        about = self.get(version)
        if about.state == "live":
            raise ConfigError(f"{about.label} is live already", hint="activate another one")
        if about.trained and (about.measured is None or not about.measured["low"] > 0):
            low = "never measured" if about.measured is None else f"{about.measured['low']:+.3f}"
            raise ConfigError(
                f"{about.label} is not proven to beat {self.rival} ({low})",
                hint="train it on more labels",
            )
        self.load(version)

        def work(c: Connection) -> None:
            lock(c, f"{self.kind}s {self._tenant} {self.name}")
            for row in self._in_state(c, "live"):
                self._move(c, row, "retired", by, f"version {version} took its place")
            self._move(c, self._row(c, version), "live", by, why)

        self._database.write(work)
        return self.get(version)

    def rollback(self, *, by: str, why: str) -> RouterVersion | None:
        """Retire the live version; return the one before it, live again, or None."""

        def work(c: Connection) -> int | None:
            lock(c, f"{self.kind}s {self._tenant} {self.name}")
            fallen = self._in_state(c, "live")
            if not fallen:
                raise ConfigError(
                    f"no version of the {self.kind} {self.name!r} is live", hint="nothing to undo"
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
        mine = models.c.tenant == self._tenant, models.c.name == self.name
        return *mine, models.c.kind == self.kind

    @property
    def _flag(self) -> str:
        return "" if self.name == NAME else f" --name {self.name}"

    @abstractmethod
    def _read(self, path: Path) -> M:
        """Return the model of a file."""

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


def _packed(model: Storable) -> bytes:
    with tempfile.TemporaryDirectory(prefix="agentmesh-") as folder:
        path = Path(folder, "model.skops")
        model.save(path)
        return path.read_bytes()
