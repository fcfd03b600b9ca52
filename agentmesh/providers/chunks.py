"""A streamed answer as chunks that add up to the very message of the whole answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.utils.json import parse_partial_json

from agentmesh.providers.blocks import VERSION, parse_arguments, string
from agentmesh.providers.failures import cut_stream


class Reader(ABC):
    """Reads one answer's events; `close` gives the last chunk, or says that the stream was cut."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.done = False
        self.metadata: dict[str, Any] = {}
        self.usage: UsageMetadata | None = None
        self._positions: dict[Hashable, int] = {}
        self._arguments: dict[int, str] = {}

    @abstractmethod
    def feed(self, event: dict[str, Any]) -> Iterator[AIMessageChunk]:
        """Yield what an event adds to the message."""

    def close(self, request_id: str) -> AIMessageChunk:
        """Return the last chunk, with the usage and the reason why the model stopped.

        langchain mends broken arguments as it adds chunks up, and so would run a call that the
        token limit cut short. Here the last chunk spoils such arguments beyond mending, which
        makes the call an invalid one; its exact text stays in the block's `extras`.
        """
        if not self.done:
            raise cut_stream(self.model)
        if request_id:
            self.metadata["request_id"] = request_id
        return AIMessageChunk(
            content=[],
            tool_call_chunks=list(self._unparsable()),
            usage_metadata=self.usage,
            response_metadata={**VERSION, **self.metadata},
            chunk_position="last",
        )

    def call(
        self, index: int, arguments: str, *, call_id: str | None = None, name: str | None = None
    ) -> AIMessageChunk:
        """Return a piece of a tool call; its id and name are given once, at its beginning."""
        self._arguments[index] = self._arguments.get(index, "") + string(arguments)
        return _call_chunk(index, arguments, call_id, name)

    def _unparsable(self) -> Iterator[ToolCallChunk]:
        for index, text in self._arguments.items():
            if parse_arguments(text) is None:
                yield tool_call_chunk(args=_spoiler(text), index=index)

    def at(self, key: Hashable) -> int:
        """Return the position of the block named `key`; a new one comes after all others."""
        return self._positions.setdefault(key, len(self._positions))

    def has(self, key: Hashable) -> bool:
        """Return whether the block named `key` was begun."""
        return key in self._positions


def text_chunk(index: int, text: str, *, phase: str | None = None) -> AIMessageChunk:
    """Return a piece of text."""
    block: dict[str, Any] = {"type": "text", "text": string(text), "index": index}
    if phase is not None:
        block["extras"] = {"phase": phase}
    return _chunk(block)


def refusal_chunk(index: int, text: str) -> AIMessageChunk:
    """Return a piece of a refusal."""
    return _chunk({"type": "refusal", "refusal": string(text), "index": index})


def reasoning_chunk(
    index: int, text: str, *, model: str | None = None, data: dict[str, Any] | None = None
) -> AIMessageChunk:
    """Return a piece of reasoning; `model` is given once, `data` in pieces that add up."""
    extras: dict[str, Any] = {}
    if model is not None:
        extras["model"] = model
    if data is not None:
        extras["data"] = data
    block: dict[str, Any] = {"type": "reasoning", "reasoning": string(text), "index": index}
    return _chunk({**block, "extras": extras} if extras else block)


def _call_chunk(
    index: int, arguments: str, call_id: str | None, name: str | None
) -> AIMessageChunk:
    block: dict[str, Any] = {
        "type": "tool_call_chunk",
        "args": arguments,
        "index": index,
        "extras": {"arguments": arguments},
    }
    if call_id is not None:
        block |= {"id": string(call_id), "name": string(name)}
    return AIMessageChunk(
        content=[block],
        tool_call_chunks=[tool_call_chunk(name=name, args=arguments, id=call_id, index=index)],
        response_metadata=dict(VERSION),
    )


def _spoiler(text: str) -> str:
    """Return what makes `text` JSON that langchain's lenient parser gives up on."""
    for end in ("", "]", '"]', '""]'):
        try:
            if not isinstance(parse_partial_json(text + end), dict):
                return end
        except ValueError:
            return end
    return ""


def _chunk(block: dict[str, Any]) -> AIMessageChunk:
    return AIMessageChunk(content=[block], response_metadata=dict(VERSION))
