"""What was there before each change, so that any of them can be taken back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentmesh import canonical
from agentmesh.errors import ConfigError, InputError
from agentmesh.tools.confined import Confined, Content


@dataclass(frozen=True, slots=True)
class Change:
    """One change: a file's content before it (None: there was none), a move, a commit or a run.

    `after` is the SHA-256 of what the change left behind; a commit's and a run's `path` and
    `after` are git's names for what was there before and after. Changes of one `step` were made
    together and are taken back together.
    """

    kind: Literal["file", "move", "commit", "run"]
    path: str
    target: str = ""
    before: Content | None = None
    after: str = ""
    step: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the change as plain JSON."""
        data = None if self.before is None else base64.b64encode(self.before.data).decode()
        return {
            "kind": self.kind,
            "path": self.path,
            "target": self.target,
            "before": data,
            "mode": None if self.before is None else self.before.mode,
            "after": self.after,
            "step": self.step,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Change:
        """Return the change that `to_json` wrote."""
        data = row["before"]
        before = None if data is None else Content(base64.b64decode(data), row["mode"])
        return cls(row["kind"], row["path"], row["target"], before, row["after"], row["step"])


class UndoLog:
    """Changes, oldest first; with a path they are kept in that file, outside of the workspace."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.changes: list[Change] = []
        if path is None or not path.exists():
            return
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            self.changes = [Change.from_json(json.loads(line)) for line in lines]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{str(path)!r} is no undo log: {error}", hint="move it away to begin a new one"
            ) from error

    def next_step(self) -> int:
        """Return the number of the step that begins now."""
        return self.changes[-1].step + 1 if self.changes else 1

    def add(self, change: Change) -> None:
        """Write `change` down; call it before the change is made."""
        self.changes.append(change)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            file = os.open(self.path, flags, 0o600)
            with os.fdopen(file, "a", encoding="utf-8") as opened:
                opened.write(canonical.dumps(change.to_json()) + "\n")

    def drop(self) -> None:
        """Forget the latest change."""
        self.changes.pop()
        if self.path is not None:
            rows = [canonical.dumps(change.to_json()) + "\n" for change in self.changes]
            passing = self.path.with_suffix(".new")
            passing.write_text("".join(rows), encoding="utf-8")
            passing.replace(self.path)


def fingerprint(data: bytes | None) -> str:
    """Return the SHA-256 of `data`; of no file, the empty text."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def take_back(files: Confined, change: Change) -> str:
    """Undo a change to a file or a move, unless somebody else has changed it since."""
    if change.kind == "move":
        files.move(change.target, change.path)
        return f"moved {change.target} back to {change.path}"
    now = files.read(change.path).data if files.look(change.path) else None
    if fingerprint(now) not in {change.after, _of(change.before)}:
        raise InputError(
            f"{change.path!r} was changed by somebody else since",
            hint="compare it by hand, or undo only what came after",
        )
    if change.before is None:
        if now is not None:
            files.remove(change.path)
        return f"removed {change.path}"
    files.write(change.path, change.before.data, change.before.mode)
    return f"restored {change.path}"


def _of(content: Content | None) -> str:
    return fingerprint(None if content is None else content.data)
