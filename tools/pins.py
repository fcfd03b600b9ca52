"""Definitions that a person has seen: a changed one is not shown to a model before it is approved.

A tool's description stands in every prompt, and its arguments decide what it can do. Whoever can
change a definition after it was looked at can change what an agent does. So definitions are
pinned by hash, with who agreed to each and when: in a file beside the code, or, for what comes
from elsewhere, in the memory's database.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from agentmesh.errors import ConfigError
from agentmesh.prompt import ToolSpec
from agentmesh.tools.toolset import Catalogue

FIRST_USE = "first use"
"""Who agreed to the definitions that were there when the file was made."""

_VERSION = 1


class Pin(TypedDict):
    """A definition as it was agreed to, by whom and when (UTC)."""

    sha: str
    description: str
    parameters: str
    by: str
    at: str


class Pinned(ABC):
    """Definitions as a person last saw them; where they are kept is for a subclass to say."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tools: dict[str, tuple[str, ToolSpec]] = {}

    def hold(self, tools: Catalogue) -> Catalogue:
        """Return `tools` as they may be shown: changed ones as they were when last approved."""
        names = self._names(tools)
        self._tools = {
            item.name: (tools.pins[item.name], item) for item in tools.specs if item.name in names
        }
        if not self._tools:
            return tools
        if new := self._first(self._read()):
            self.approve(*new, by=FIRST_USE)
        held = self._read()
        return tools.showing(
            {
                name: ToolSpec(name, held[name]["description"], held[name]["parameters"])
                for name in tools.changed({name: pin["sha"] for name, pin in held.items()})
                if name in held and name in self._tools
            }
        )

    def asks(self, name: str) -> str:
        """Return why a person must agree to a call of `name`; "" if its definition is pinned."""
        if name not in self._tools:
            return ""  # not among the tools that are pinned, such as the agent's own
        pin = self._read().get(name)
        if pin is None:
            return "nobody has approved this tool's definition yet"
        if pin["sha"] == self._tools[name][0]:
            return ""
        return (
            f"its definition is no longer the one that was approved on {pin['at'][:10]} "
            f"({pin['by']}); it says now: {self._tools[name][1].description!r:.500}"
        )

    def approve(self, *names: str, by: str) -> None:
        """Pin the definitions that these tools have now."""
        if not by.strip():
            raise ConfigError("who approves?", hint="give by= a name")
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        pins = {}
        for name in names:
            if name not in self._tools:
                raise ConfigError(
                    f"no tool {name!r} is held by these pins",
                    hint="it holds " + (", ".join(sorted(self._tools)) or "none yet"),
                )
            sha, said = self._tools[name]
            pins[name] = Pin(
                sha=sha, description=said.description, parameters=said.parameters, by=by, at=at
            )
        self._keep(pins)

    @abstractmethod
    def _names(self, tools: Catalogue) -> frozenset[str]:
        """Return which tools are pinned."""

    @abstractmethod
    def _first(self, held: Mapping[str, Pin]) -> Collection[str]:
        """Return the tools of which this is the first use."""

    @abstractmethod
    def _read(self) -> Mapping[str, Pin]:
        """Return what was agreed to, by the tools' names."""

    @abstractmethod
    def _keep(self, pins: Mapping[str, Pin]) -> None:
        """Store what is agreed to."""


class Pins(Pinned):
    """Pinned definitions of all of an agent's tools, in a file; keep it under version control.

    The first use of a new file pins what is there. From then on a tool that is new or changed
    asks a person before each call, the model is shown a changed one as it was, and the person's
    approval pins what it has become: it is shown from the next start on.

    Example:
        agent = Agent("desk", "...", tools=tools, tiers=tiers, pins=Pins("tools.lock"))

    Args:
        path: the file; it is made at the first use.
        clock: seconds since the epoch.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.path = Path(path)
        if self.path.exists():
            self._read()

    def _names(self, tools: Catalogue) -> frozenset[str]:
        return frozenset(tools.by_name)

    def _first(self, held: Mapping[str, Pin]) -> Collection[str]:
        return () if self.path.exists() else self._tools

    def _keep(self, pins: Mapping[str, Pin]) -> None:
        with self._locked():
            self._write({**self._read(), **pins})

    def _read(self) -> Mapping[str, Pin]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the pins {str(self.path)!r} cannot be read: {error}", hint="check the file"
            ) from error
        try:
            return _checked(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"the pins {str(self.path)!r} are damaged",
                hint="restore the file from version control; deleting it pins anew",
            ) from error

    def _write(self, held: Mapping[str, Pin]) -> None:
        text = json.dumps({"version": _VERSION, "tools": held}, indent=1, sort_keys=True)
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self.path.parent, delete=False
            ) as file:
                file.write(text + "\n")
            os.replace(file.name, self.path)
        except OSError as error:
            raise ConfigError(
                f"the pins {str(self.path)!r} cannot be written: {error}",
                hint="does the folder exist, and may it be written to?",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file against other processes that approve something at the same time."""
        try:
            import fcntl
        except ImportError:  # not on Windows: the file is replaced whole all the same
            yield
            return
        try:
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(
                f"the pins {str(self.path)!r} have no folder", hint="make it first"
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _checked(given: Any) -> dict[str, Pin]:
    if given["version"] != _VERSION:
        raise ValueError(given["version"])
    return {
        str(name): Pin(
            sha=str(pin["sha"]),
            description=str(pin["description"]),
            parameters=str(pin["parameters"]),
            by=str(pin["by"]),
            at=str(pin["at"]),
        )
        for name, pin in given["tools"].items()
    }
