"""A streamed turn: what happens in the graph, told in parts as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage

MODES: list[Any] = ["messages", "updates", "values"]
"""The LangGraph streams that parts are made of."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a streamed turn.

    `route` tells which tier drafts next, `text` is a piece of that draft, `retract` says that the
    draft was refused and its text is void, `call` and `result` tell of a tool, `interrupt` asks a
    person, and `reply` ends the stream with the whole `Reply`.
    """

    kind: Literal["route", "text", "retract", "call", "result", "interrupt", "reply"]
    text: str = ""
    value: Any = None


def parts_of(event: Any, state: dict[str, Any], interrupts: list[Any]) -> Iterator[Part]:
    """Return the parts that one LangGraph event stands for; keeps the newest state."""
    if event["type"] == "values":
        state.clear()
        state.update(event["data"])
    elif event["type"] == "messages":
        message, about = event["data"]
        drafted = isinstance(message, AIMessageChunk) and about.get("langgraph_node") == "act"
        if drafted and message.text:
            yield Part("text", message.text)
    elif event["type"] == "updates":
        for node, update in event["data"].items():
            if node == "__interrupt__":
                interrupts.extend(update)
                for item in update:
                    yield Part("interrupt", value=item.value)
            else:
                yield from _update_parts(node, update or {})


def _update_parts(node: str, update: dict[str, Any]) -> Iterator[Part]:
    if node == "route" and update.get("tier"):
        yield Part("route", update["tier"], update["decision"])
    if node == "act" and update.get("failures"):
        yield Part("retract", update["failures"][-1]["reason"], update["failures"][-1])
    for message in update.get("messages", []):
        if node == "act" and isinstance(message, AIMessage):
            for call in message.tool_calls:
                yield Part("call", call["name"], call)
        elif node == "tools" and isinstance(message, ToolMessage):
            yield Part("result", str(message.content), message)
