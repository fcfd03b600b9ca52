"""Epochs: what a session's prefix is frozen to, and the notes that tell of later edits.

Inside an epoch nothing that was rendered moves. An edit to a bucket is shown as a short note
appended to the log; the next epoch folds it into the frozen text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from agentmesh import canonical
from agentmesh.economy.tokens import count
from agentmesh.memory.facts import Facts
from agentmesh.memory.items import KINDS, Kind, lines
from agentmesh.prompt import Segment, ToolSpec

_TITLES: dict[Kind, str] = {
    "org": "About the organisation that this user belongs to",
    "profile": "About this user",
    "task": "About the task at hand",
}


@dataclass(frozen=True)
class Epoch:
    """A session's frozen prefix: the same bytes for every call until the next epoch."""

    number: int
    reason: str
    base: int
    tools: tuple[ToolSpec, ...]
    segments: tuple[Segment, ...]
    seen: dict[Kind, int]

    @cached_property
    def text(self) -> str:
        """The frozen part in canonical form: what the prompt's hash begins with."""
        return frozen_text(self.tools, self.segments)

    @cached_property
    def shared(self) -> tuple[tuple[str, str], ...]:
        """Name and hash of each layer that other sessions share."""
        return shared_layers(self.tools, self.core)

    @property
    def core(self) -> str:
        """The agent's own instructions."""
        return next(segment.text for segment in self.segments if segment.name == "core")

    @property
    def digest(self) -> tuple[Segment, ...]:
        """The account of the compacted log, as no or one segment."""
        return tuple(segment for segment in self.segments if segment.name == "digest")

    @cached_property
    def tokens(self) -> tuple[tuple[str, int], ...]:
        """Tokens of the tools and of each segment, in order."""
        tools = sum(count(t.name + t.description + t.parameters) for t in self.tools)
        return ("tools", tools), *((s.name, count(s.text)) for s in self.segments)


def frozen_text(tools: Sequence[ToolSpec], segments: Sequence[Segment]) -> str:
    """Return the frozen part of a prompt in canonical form."""
    shown = canonical.dumps([[segment.name, segment.text] for segment in segments])
    return f'{{"segments":{shown},"tools":{_tools_value(tuple(tools))}}}'


@lru_cache(maxsize=64)
def _tools_value(tools: tuple[ToolSpec, ...]) -> str:
    """Return the tool list's text as a JSON string; many sessions share it."""
    return canonical.dumps(tools_text(tools))


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """Return the tool list as canonical text, in the order it is sent."""
    return canonical.dumps([[tool.name, tool.description, tool.parameters] for tool in tools])


def parse_tools(text: str) -> tuple[ToolSpec, ...]:
    """Return the tools of a text made by `tools_text`."""
    return tuple(ToolSpec(*row) for row in canonical.loads(text))


def shared_layers(tools: Sequence[ToolSpec], core: str) -> tuple[tuple[str, str], ...]:
    """Return name and hash of the layers that do not depend on the user."""
    return ("tools", canonical.sha(tools_text(tools))), ("core", canonical.sha(core))


def bucket_segments(facts: Facts) -> tuple[Segment, ...]:
    """Return one segment per bucket that holds anything, most widely shared first."""
    return tuple(
        Segment(kind, f"<{kind}>\n{_TITLES[kind]}:\n{lines(facts.items[kind])}\n</{kind}>")
        for kind in KINDS
        if facts.items.get(kind)
    )


def digest_segment(digest: str) -> tuple[Segment, ...]:
    """Return the account of the compacted log as a segment that it cannot close; none if empty."""
    said = digest.strip().replace("</", "<\\/")
    text = f"<digest>\nWhat happened earlier in this conversation:\n{said}\n</digest>"
    return (Segment("digest", text),) if said else ()


def note_text(facts: Facts) -> str:
    """Return the note that tells a model what changed in the buckets; empty if nothing did."""
    changed = [f"{kind}.{item.line()}" for kind in KINDS for item in facts.items.get(kind, ())]
    return "" if not changed else "<memory-update>\n" + "\n".join(changed) + "\n</memory-update>"
