"""What the three APIs' bodies have in common: text without blanks, and clear refusals."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

from langchain_core.messages import BaseMessage

from agentmesh import canonical
from agentmesh.errors import InputError
from agentmesh.providers.blocks import Block

T = TypeVar("T")

EMPTY = "(empty)"
"""What a tool that returned nothing is shown to have returned, where something must be said."""


CHANGE = "tools"
"""Where a message holds a change of the tools: the functions `added`, the names `removed`."""


class _Frozen(NamedTuple):
    message: weakref.ref[BaseMessage]
    wires: dict[Hashable, Any]


_frozen: dict[int, _Frozen] = {}


def freeze(message: BaseMessage) -> None:
    """Promise that a message never changes, so that `once` may keep what is made of it."""
    key = id(message)
    _frozen[key] = _Frozen(weakref.ref(message, lambda _: _frozen.pop(key, None)), {})


def once(message: BaseMessage, key: Hashable, make: Callable[[BaseMessage], T]) -> T:
    """Return what `make` makes of a message: only once, and then the same, if it is frozen."""
    found = _frozen.get(id(message))
    if found is None or found.message() is not message:
        return make(message)
    wires = found.wires
    if key not in wires:
        wires[key] = make(message)
    made: T = wires[key]
    return made


def texts(message: BaseMessage) -> list[Block]:
    """Return a message's text blocks, with their marks; blank ones hand their mark to the last.

    Vendors refuse blank text, and a body's form must not depend on how a text was given.
    """
    content = message.content if isinstance(message.content, list) else [message.content]
    blocks: list[Block] = []
    for part in content:
        block = {"type": "text", "text": part} if isinstance(part, str) else part
        if block.get("type") != "text":
            raise InputError(
                f"a {message.type} message holds a block of type {block.get('type')!r}",
                hint="only text can be sent",
            )
        text = canonical.clean(block["text"])
        mark = block.get("mark")
        if not text.strip():
            if mark and blocks:
                blocks[-1].setdefault("mark", mark)
            continue
        blocks.append({"text": text, "mark": mark} if mark else {"text": text})
    return blocks


def change_of(message: BaseMessage) -> dict[str, Any] | None:
    """Return the change of the tools that a message tells of, if it is such a one."""
    change: dict[str, Any] | None = message.additional_kwargs.get(CHANGE)
    return change


def mark_of(message: BaseMessage) -> str | None:
    """Return the mark at the end of a message, blank as it may be."""
    parts = message.content if isinstance(message.content, list) else []
    marks = [part["mark"] for part in parts if isinstance(part, dict) and part.get("mark")]
    return marks[-1] if marks else None


def joined(message: BaseMessage) -> str:
    """Return a message's text as one string."""
    return "\n\n".join(block["text"] for block in texts(message))


def cache_key(messages: Sequence[BaseMessage]) -> str:
    """Return the cache key that `to_messages` put on the first message ("" for none)."""
    key = messages[0].additional_kwargs.get("cache_key") if messages else None
    return str(key or "")


def unknown_message(message: BaseMessage) -> InputError:
    """Return the error for a message that no API has a place for."""
    return InputError(
        f"a message of type {message.type!r} cannot be sent",
        hint="use system, human, ai and tool messages",
    )
