"""What kind of work a log holds: how hard each step is, what data it needs, who waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from agentmesh.audit.pieces import Part, Step

Complexity = Literal["simple", "moderate", "complex"]
Data = Literal["prompt alone", "tools", "documents"]
Latency = Literal["a person waits", "between tools", "no follow-up"]

SIMPLE_OUTPUT = 150
COMPLEX_OUTPUT = 800
COMPLEX_CALLS = 3
DOCUMENT_TOKENS = 1_000

RULES = (
    f"simple: no tool call so far in the turn, none in the answer, at most {SIMPLE_OUTPUT} tokens"
    f" of answer; complex: {COMPLEX_CALLS} or more tool calls in the turn, code in the answer, or"
    f" more than {COMPLEX_OUTPUT} tokens of it; moderate: all other steps"
)


class Kind(NamedTuple):
    """The category of a step."""

    complexity: Complexity
    data: Data
    latency: Latency


def kind_of(parts: Sequence[Part], step: Step, *, follows: bool) -> Kind:
    """Return the category of a step.

    Args:
        parts: the log's parts.
        step: the step.
        follows: whether the log goes on with another user's turn after it.
    """
    calls = 0
    document = False
    last = parts[step.upto - 1].kind if step.upto else ""
    for index in range(step.upto - 1, -1, -1):
        part = parts[index]
        if part.kind in ("user", "human"):
            document = part.tokens >= DOCUMENT_TOKENS
            break
        calls += part.calls
    complexity: Complexity = "moderate"
    if calls + step.calls >= COMPLEX_CALLS or step.output > COMPLEX_OUTPUT or "```" in step.text:
        complexity = "complex"
    elif not calls and not step.calls and step.output <= SIMPLE_OUTPUT:
        complexity = "simple"
    data: Data = "tools" if calls or step.calls else "documents" if document else "prompt alone"
    if last in ("tool", "function") or (calls and last == "user" and step.calls):
        latency: Latency = "between tools"
    else:
        latency = "a person waits" if follows or calls else "no follow-up"
    return Kind(complexity, data, latency)
