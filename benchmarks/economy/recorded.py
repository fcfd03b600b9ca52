"""Recorded conversations as the prompts that an agent would send, step by step, interleaved."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh import canonical
from agentmesh.economy.planner import place_marks
from agentmesh.economy.semantics import CacheSemantics
from agentmesh.economy.tokens import count
from agentmesh.prompt import Entry, Prompt, Segment, ToolSpec

STEP_S = 4.0
"""Seconds from one call of a process to its next; four conversations share the process."""


@dataclass(frozen=True)
class Conversation:
    """A recorded conversation: its tools and instructions, its log, and where calls were made."""

    name: str
    tools: tuple[ToolSpec, ...]
    core: Segment
    entries: tuple[Entry, ...]
    steps: tuple[int, ...]

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        tools = sum(count(t.name + t.description + t.parameters) for t in self.tools)
        return ("tools", tools), ("core", count(self.core.text))


class Asked(NamedTuple):
    """One call: who asks, what, and when."""

    conversation: Conversation
    shown: tuple[Entry, ...]
    prompt: Prompt
    at: float
    before: int


def load(path: Path, tools: Path) -> list[Conversation]:
    """Return the conversations of a file that have at least one step."""
    specs = tuple(sorted((_spec(t) for t in json.loads(tools.read_text())), key=lambda t: t.name))
    read = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    made = [_conversation(row, specs) for row in read]
    return [conversation for conversation in made if conversation.steps]


def _spec(tool: dict[str, Any]) -> ToolSpec:
    function = tool["function"]
    parameters = canonical.dumps(function.get("parameters") or {"type": "object"})
    return ToolSpec(function["name"], function.get("description", ""), parameters)


def _conversation(row: dict[str, Any], tools: tuple[ToolSpec, ...]) -> Conversation:
    entries: list[Entry] = []
    steps: list[int] = []
    names: dict[str, str] = {}
    core, asked = "", False
    for message in row["messages"]:
        role, text = message["role"], message.get("content") or ""
        if role == "system":
            core = text
            continue
        if role == "assistant" and asked:
            steps.append(len(entries))
        asked = asked or role == "user"
        blocks: list[dict[str, Any]] = []
        if role == "tool":
            id_ = message["tool_call_id"]
            name = names.get(id_, "tool")
            blocks = [{"type": "result", "id": id_, "name": name, "text": text, "error": False}]
        elif text.strip():
            blocks = [{"type": "text", "text": text}]
        for call in message.get("tool_calls") or ():
            function = call["function"]
            names[call["id"]] = function["name"]
            blocks.append({"type": "call", "id": call["id"], **function})
        if blocks:
            entries.append(_entry(len(entries) + 1, role, blocks))
    return Conversation(row["id"], tools, Segment("core", core), tuple(entries), tuple(steps))


def _entry(seq: int, kind: Any, blocks: list[dict[str, Any]]) -> Entry:
    texts = [b.get("text") or b.get("name", "") + b.get("arguments", "") for b in blocks]
    body = canonical.dumps({"blocks": blocks})
    return Entry(seq, 0, seq, kind, body, sum(map(count, texts)))


def interleaved(
    conversations: Sequence[Conversation], rules: CacheSemantics, side_by_side: int
) -> Iterator[Asked]:
    """Yield the calls of conversations that go on side by side, each as our planner marks it."""
    waiting = deque(conversations)
    running: deque[tuple[Conversation, Iterator[int], int]] = deque()
    now = 1_790_000_000.0
    while waiting or running:
        while waiting and len(running) < side_by_side:
            conversation = waiting.popleft()
            running.append((conversation, iter(conversation.steps), 0))
        conversation, steps, before = running.popleft()
        upto = next(steps, None)
        if upto is None:
            continue
        shown = conversation.entries[:upto]
        anchor = conversation.entries[before - 1].seq if before else None
        marks = place_marks(conversation.layers, shown, rules, anchor=anchor)
        prompt = Prompt(conversation.tools, (conversation.core,), shown, marks=marks)
        yield Asked(conversation, shown, prompt, now, before)
        running.append((conversation, steps, upto))
        now += STEP_S
