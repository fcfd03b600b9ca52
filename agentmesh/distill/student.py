"""What every student is: something that answers a prompt, or says that it had better not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from agentmesh.distill.traces import Message


@dataclass(frozen=True, slots=True)
class Guess:
    """A student's answer as a chat message, or None where it abstains; and how sure it is.

    The tokens are those that it read and wrote: none, but for a language model.
    """

    answer: Message | None
    confidence: float
    reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


def unreadable(answer: Message) -> str:
    """Return why an answer's calls cannot be made; "" where they can."""
    for call in answer.get("tool_calls") or ():
        try:
            readable = isinstance(json.loads(call["function"]["arguments"]), dict)
        except ValueError:
            readable = False
        if not readable:
            return f"the arguments of {call['function']['name']!r} are no JSON object"
    return ""


@runtime_checkable
class Student(Protocol):
    """Answers prompts; saved to a path and read back, it gives the same answers."""

    @property
    def kind(self) -> str:
        """Which of the kinds of student this is."""
        ...

    def answer(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Guess:
        """Return the answer to a prompt, or an abstention."""
        ...

    def save(self, path: Path | str) -> None:
        """Write the student."""
        ...
