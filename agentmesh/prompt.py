"""A prompt as a value: what is sent, in which order, and where the cache is marked.

This is the seam between memory, which renders prompts, the economy, which plans their marks,
and the providers, which write them as a vendor's request. Nothing here knows any of the three.
Order on the wire: tools (sorted by name) | segments | entries | tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from agentmesh import canonical

Ttl = Literal["short", "long"]
"""How long a marked prefix is kept: the vendor's short (5 or 30 minutes) or long (1 or 12 hours)."""

EntryKind = Literal["user", "assistant", "tool", "note", "digest", "tools"]
"""The kinds of log entry that a prompt shows."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it; `parameters` is its JSON schema in canonical JSON."""

    name: str
    description: str
    parameters: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A named run of frozen text: `core`, `org`, `profile`, `task` or `digest`."""

    name: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One entry of a session's log, as it is stored: `body` is canonical JSON and never changes.

    Bodies hold a list of blocks, `{"blocks": [...]}`; a block is one of

    - `{"type": "text", "text": str}`
    - `{"type": "call", "id": str, "name": str, "arguments": str}` (arguments: the JSON text
      that the model wrote, key order kept)
    - `{"type": "result", "id": str, "name": str, "text": str, "error": bool}`
    - `{"type": "opaque", "model": str, "data": {...}}` (a vendor's own block, such as signed
      thinking: shown to the model that made it alone)
    - `{"type": "tools", "added": [[name, description, parameters]], "removed": [name],
      "text": str}` (a change of the tools, see `agentmesh.toolview`)
    """

    seq: int
    turn: int
    step: int
    kind: EntryKind
    body: str
    tokens: int = 0

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """The body's blocks."""
        blocks: list[dict[str, Any]] = canonical.loads(self.body)["blocks"]
        return blocks


@dataclass(frozen=True, slots=True)
class Marks:
    """Where cache breakpoints stand: at the end of segments (by name) and of entries (by seq).

    The name `tools` marks the end of the tool list; `why` tells what the long ones are for.
    """

    segments: Mapping[str, Ttl] = field(default_factory=dict)
    entries: Mapping[int, Ttl] = field(default_factory=dict)
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a model is shown, in order; `tail` is the only part that may be volatile.

    `cache_key` names the shared prefix for vendors that route by a key.
    """

    tools: tuple[ToolSpec, ...]
    segments: tuple[Segment, ...]
    entries: tuple[Entry, ...]
    tail: str = ""
    marks: Marks = field(default_factory=Marks)
    cache_key: str = ""
