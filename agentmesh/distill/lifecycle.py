"""The life of a student in the database: candidate, shadow, canary, live, retired.

Versions of a name stand in the `models` table; each row keeps its own audit trail. A version
moves forward one state at a time, by hand or on evidence; it is rolled back at once, and the
version that was live before is live again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from agentmesh import canonical
from agentmesh.distill.version import State, Version, fingerprint, moved, prior, unfit
from agentmesh.distill.watch import Advice, Watch
from agentmesh.errors import ConfigError, ConflictError
from agentmesh.memory.tables import models

if TYPE_CHECKING:
    from agentmesh.memory import Memory

T = TypeVar("T")

NEXT: Mapping[str, State] = {"candidate": "shadow", "shadow": "canary", "canary": "live"}
"""The state after each; a retired version stays retired, unless a rollback brings it back."""

TRUSTED = 0.7
"""A version whose belief falls below this is rolled back: it is the router's usual bar."""

LEAST_HEARD = 20
"""Turns of a canary from which is known how often it serves."""


class Register:
    """The versions of a tenant's students.

    >>> from agentmesh.memory import Memory
    >>> Register(Memory("sqlite://")).versions("desk")
    []
    """

    def __init__(self, memory: Memory) -> None:
        self._database = memory.database
        self._tenant = memory.tenant
        self._clock = memory.clock

    def add(
        self,
        name: str,
        path: Path | str,
        *,
        trained: Mapping[str, Any] | None = None,
        measured: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> Version:
        """Register a trained student as a candidate; its file must not change from now on.

        Args:
            name: of the student; a new version of it is made.
            path: its file or folder.
            trained: how it was made: teacher, split, terms, settings.
            measured: `success` (0 to 1), `baseline` (that of what it would replace), `margin`
                (how much lower its success may be), and more.
            by: who registers it.
        """
        sha = fingerprint(path)
        facts: dict[str, Any] = {
            "trained": dict(trained or {}),
            "measured": dict(measured or {}),
            "events": [self._event("", "candidate", by, "registered")],
        }
        if measured and "success" in measured:
            facts["prior"] = prior(name, measured["success"], self.versions())

        def work(c: Connection) -> None:
            last = select(func.max(models.c.version)).where(*self._named(name))
            number = (c.execute(last).scalar_one_or_none() or 0) + 1
            c.execute(
                insert(models).values(
                    tenant=self._tenant,
                    name=name,
                    version=number,
                    kind="student",
                    state="candidate",
                    facts=canonical.dumps(facts),
                    path=str(Path(path).absolute()),
                    sha=sha,
                    at=self._clock(),
                )
            )

        self._database.write(work)
        return self.versions(name)[-1]

    def versions(self, name: str | None = None) -> list[Version]:
        """Return all versions, of one student or of all, oldest first."""
        query = select(models).where(models.c.tenant == self._tenant, models.c.kind == "student")
        if name is not None:
            query = query.where(models.c.name == name)
        query = query.order_by(models.c.name, models.c.version)
        return self._database.read(lambda c: [_version(row) for row in c.execute(query)])

    def in_state(self, name: str, state: State) -> Version | None:
        """Return the newest version that is in a state, or None."""
        found = [v for v in self.versions(name) if v.state == state]
        return found[-1] if found else None

    def get(self, name: str, version: int | None = None) -> Version:
        """Return one version; without a number the newest that is not retired."""
        found = self.versions(name)
        if version is None:
            found = [v for v in found if v.state != "retired"] or found[-1:]
        else:
            found = [v for v in found if v.version == version]
        if not found:
            raise ConfigError(
                f"there is no student {name!r}" + (f" version {version}" if version else ""),
                hint="see: agentmesh distill status",
            )
        return found[-1]

    def verified(self, name: str) -> Version:
        """Return the live version; CorruptError if its files changed since it was registered."""
        live = self.in_state(name, "live")
        if live is None:
            raise ConfigError(f"no version of {name!r} is live", hint="promote one first")
        return live.intact()

    def promote(
        self, name: str, version: int | None = None, *, by: str = "", why: str = "by hand"
    ) -> Version:
        """Move a version to its next state; the one that was there before is retired.

        Raises:
            ConfigError: it is live or retired already, was never measured, or is `unfit`.
            CorruptError: its files changed since it was registered.
        """
        now = self.get(name, version)
        if now.state not in NEXT:
            raise ConfigError(
                f"{name!r} version {now.version} is {now.state}", hint="promote another version"
            )
        to = NEXT[now.intact().state]
        if to in ("canary", "live") and "baseline" not in now.facts["measured"]:
            raise ConfigError(
                f"{name!r} version {now.version} was never measured",
                hint="evaluate it first: agentmesh distill eval",
            )
        if why_not := unfit(now):
            raise ConfigError(
                f"{name!r} version {now.version} is not promoted: {why_not}",
                hint="teach it from more calls",
            )
        facts: dict[str, Any] = {}
        if to in ("canary", "live"):
            mode: Any = "canary" if to == "canary" else "live"
            measured = now.facts["measured"]
            margin = measured.get("margin", 0.0)
            facts["watch"] = Watch(measured["baseline"], margin=margin, mode=mode).to_json()

        def work(c: Connection) -> None:
            for other in self._rows(c, name, to):
                why_not = f"version {now.version} took its place"
                self._move(c, other, "retired", by, why_not)
            self._move(c, self._row(c, name, now.version), to, by, why, facts, now.state)

        self._database.write(work)
        return self.get(name, now.version)

    def measure(self, name: str, version: int, measured: Mapping[str, Any]) -> Version:
        """Store what an evaluation found, before the version serves anybody.

        Args:
            name: of the student.
            version: its number.
            measured: `success` (0 to 1), `baseline` (that of what it replaces), and more.
        """
        if not 0 < float(measured.get("baseline", 0)) <= 1:
            raise ConfigError(
                f"measured={dict(measured)!r} has no baseline", hint="success of what it replaces"
            )

        def work(c: Connection) -> None:
            row = self._row(c, name, version)
            if row.state not in ("candidate", "shadow"):
                raise ConfigError(f"{name!r} version {version} is {row.state} already")
            c.execute(
                update(models)
                .where(models.c.id == row.id)
                .values(facts=canonical.dumps({**canonical.loads(row.facts), **facts}))
            )

        self.get(name, version)
        facts: dict[str, Any] = {"measured": dict(measured)}
        if "success" in measured:
            earlier = [v for v in self.versions() if (v.name, v.version) != (name, version)]
            facts["prior"] = prior(name, measured["success"], earlier)
        self._database.write(work)
        return self.get(name, version)

    def note(self, name: str, version: int, facts: Mapping[str, Any]) -> None:
        """Add to what is known of a version; nothing of its state, watch or trail is changed."""
        kept = {
            k: v
            for k, v in facts.items()
            if k not in ("events", "watch", "voice", "prior", "measured")
        }

        def work(c: Connection) -> None:
            row = self._row(c, name, version)
            c.execute(
                update(models)
                .where(models.c.id == row.id)
                .values(facts=canonical.dumps({**canonical.loads(row.facts), **kept}))
            )

        self._database.write(work)

    def rollback(self, name: str, *, by: str = "", why: str = "by hand") -> Version | None:
        """Retire the canary, or else the live version; return the version that is live now.

        After a live version falls, the one that was live before it is live again.
        """
        return self._database.write(lambda c: self._rollback(c, name, by, why))

    def observe(self, name: str, version: int, success: float) -> Advice:
        """Add a run's success to a version's evidence, and act on it: a bad one is rolled back.

        A canary that has proven itself is advised for promotion, not promoted.
        """

        def work(c: Connection) -> Advice:
            row = self._row(c, name, version)
            facts = canonical.loads(row.facts)
            if row.state not in ("canary", "live"):
                return "continue"
            watch = Watch.from_json(facts["watch"])
            advice = watch.see(success)
            c.execute(
                update(models)
                .where(models.c.id == row.id)
                .values(facts=canonical.dumps({**facts, "watch": watch.to_json()}))
            )
            first = facts.get("prior", 0.0)
            now = moved(first, watch.runs, watch.successes)
            if first >= TRUSTED > now:  # no router would choose it, and no run would be seen
                advice = "rollback"
            if advice == "rollback":
                self._rollback(c, name, "watch", watch.told(), row.state)
            return advice

        return self._database.write(work)

    def heard(self, name: str, version: int, *, served: bool) -> Advice:
        """Count a turn in which a version was asked, and whether it served all of it.

        As a canary it shows how often it does. A live one that surely does so less than half as
        often is rolled back, well as it may know when to be silent: what it is asked has changed.
        """

        def work(c: Connection) -> Advice:
            row = self._row(c, name, version)
            facts = canonical.loads(row.facts)
            voice = facts.get("voice") or {"asked": 0, "served": 0}
            advice: Advice = "continue"
            if row.state == "canary":
                voice = {"asked": voice["asked"] + 1, "served": voice["served"] + served}
            elif row.state == "live" and voice["asked"] >= LEAST_HEARD and voice["served"]:
                share = voice["served"] / voice["asked"]
                known = voice.get("watch")
                watch = Watch.from_json(known) if known else Watch(share / 2, mode="live")
                advice = watch.see(float(served))
                voice["watch"] = watch.to_json()
            else:
                return advice
            c.execute(
                update(models)
                .where(models.c.id == row.id)
                .values(facts=canonical.dumps({**facts, "voice": voice}))
            )
            if advice == "rollback":
                told = f"serves {sum(watch.latest):g} of the last {len(watch.latest)} turns"
                self._rollback(c, name, "watch", f"{told}; {share:.0%} as a canary", row.state)
            return advice

        return self._database.write(work)

    def _rollback(
        self, c: Connection, name: str, by: str, why: str, state: str = ""
    ) -> Version | None:
        fallen = next(
            (
                row
                for s in ((state,) if state else ("canary", "live"))
                for row in self._rows(c, name, s)
            ),
            None,
        )
        if fallen is None:
            raise ConfigError(f"no version of {name!r} is live or canary", hint="nothing to undo")
        self._move(c, fallen, "retired", by, why)
        if fallen.state == "live" and (before := self._before(c, name, fallen.version)):
            held = canonical.loads(before.facts)["measured"]
            watch = Watch(held["baseline"], margin=held.get("margin", 0.0), mode="live")
            voice = canonical.loads(before.facts).get("voice")
            facts = {"watch": watch.to_json(), "voice": voice and {**voice, "watch": None}}
            self._move(c, before, "live", by, f"version {fallen.version} was rolled back", facts)
        live = next(iter(self._rows(c, name, "live")), None)
        return None if live is None else _version(live)

    def _before(self, c: Connection, name: str, version: int) -> Any:
        """Return the version that was live before: retired only because another took its place."""
        for row in reversed(self._rows(c, name, "retired")):
            last = canonical.loads(row.facts)["events"][-1]
            if (
                row.version != version
                and last["from"] == "live"
                and "took its place" in last["why"]
            ):
                return row
        return None

    def _move(
        self,
        c: Connection,
        row: Any,
        to: State,
        by: str,
        why: str,
        facts: Mapping[str, Any] | None = None,
        expected: str | None = None,
    ) -> None:
        old = canonical.loads(row.facts)
        events = [*old["events"], self._event(row.state, to, by, why)]
        moved = c.execute(
            update(models)
            .where(models.c.id == row.id, models.c.state == (expected or row.state))
            .values(state=to, facts=canonical.dumps({**old, **(facts or {}), "events": events}))
        )
        if moved.rowcount != 1:
            raise ConflictError(f"somebody else moved {row.name!r} version {row.version}")

    def _event(self, old: str, new: str, by: str, why: str) -> dict[str, Any]:
        return {"at": self._clock(), "from": old, "to": new, "by": by, "why": why}

    def _named(self, name: str) -> tuple[Any, ...]:
        return models.c.tenant == self._tenant, models.c.name == name, models.c.kind == "student"

    def _rows(self, c: Connection, name: str, state: str) -> list[Any]:
        query = select(models).where(*self._named(name), models.c.state == state)
        return list(c.execute(query.order_by(models.c.version)))

    def _row(self, c: Connection, name: str, version: int) -> Any:
        query = select(models).where(*self._named(name), models.c.version == version)
        return c.execute(query).one()


def _version(row: Any) -> Version:
    facts = canonical.loads(row.facts)
    return Version(row.name, row.version, row.state, facts, row.path, row.sha)
