"""Training files: OpenAI chat, Hugging Face conversational, ShareGPT; each reads what it writes.

Nothing is rewritten on the way: the messages are those that the student will be served with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from agentmesh.distill.limits import out_of
from agentmesh.distill.terms import Ruling
from agentmesh.distill.traces import Message, plain, read_rows
from agentmesh.errors import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, and which of its assistant messages are learned from (by index)."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    trained: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        answers = self.answers
        if not self.trained or not set(self.trained) <= set(answers):
            raise InputError(
                f"messages {list(self.trained)} are to be learned, answers are {answers}",
                hint="name at least one assistant message",
            )

    @property
    def answers(self) -> list[int]:
        """The indexes of all assistant messages."""
        return [i for i, m in enumerate(self.messages) if m["role"] == "assistant"]

    def singles(self) -> Iterator[Example]:
        """Yield one example per learned answer, each ending with it."""
        for i in self.trained:
            yield Example(self.messages[: i + 1], self.tools, (i,))


class Format(Protocol):
    """How examples are written: one or more rows each."""

    name: str

    def dump(self, example: Example) -> Iterator[dict[str, Any]]:
        """Yield the rows of an example."""
        ...

    def load(self, row: Mapping[str, Any]) -> Example:
        """Return the example that a row spells; InputError where it spells none."""
        ...


class OpenAIChat:
    """OpenAI's fine-tuning lines: `messages` and `tools`; `weight` 0 on what is not learned."""

    name = "openai"

    def dump(self, example: Example) -> Iterator[dict[str, Any]]:
        """Yield one row that ends with the last learned answer."""
        kept = example.messages[: max(example.trained) + 1]
        messages = [
            {**m, "weight": int(i in example.trained)} if m["role"] == "assistant" else dict(m)
            for i, m in enumerate(kept)
        ]
        row: dict[str, Any] = {"messages": messages}
        if example.tools:
            row["tools"] = list(example.tools)
        yield row

    def load(self, row: Mapping[str, Any]) -> Example:
        """Return the example; an answer without a weight is learned."""
        messages = _messages(row, "messages")
        trained = tuple(
            i
            for i, m in enumerate(row["messages"])
            if m.get("role") == "assistant" and m.get("weight", 1)
        )
        return Example(messages, tuple(row.get("tools") or ()), trained)


class HuggingFace:
    """TRL's conversational rows: `messages` where every answer is learned, else prompt, completion.

    Tools are a JSON string, because Arrow would merge their schemas into one; so are arguments.
    """

    name = "huggingface"

    def dump(self, example: Example) -> Iterator[dict[str, Any]]:
        """Yield one row, or one per learned answer where some are not learned."""
        tools = json.dumps(list(example.tools), ensure_ascii=False)
        if list(example.trained) == example.answers and _ends(example):
            yield {"messages": list(example.messages), "tools": tools}
            return
        for single in example.singles():
            prompt, completion = list(single.messages[:-1]), [single.messages[-1]]
            yield {"prompt": prompt, "completion": completion, "tools": tools}

    def load(self, row: Mapping[str, Any]) -> Example:
        """Return the example; everything the assistant says in `messages` is learned."""
        tools = tuple(_json(row.get("tools") or "[]", "tools"))
        if "messages" in row:
            messages = _messages(row, "messages")
            answers = (i for i, m in enumerate(messages) if m["role"] == "assistant")
            return Example(messages, tools, tuple(answers))
        prompt, completion = _messages(row, "prompt"), _messages(row, "completion")
        messages = (*prompt, *completion)
        learned = range(len(prompt), len(messages))
        return Example(messages, tools, tuple(i for i in learned if _is_answer(messages[i])))


class ShareGPT:
    """ShareGPT rows, one per learned answer, which is the last turn (train with history masked).

    Calls have no ids there: reading numbers them by their place.
    """

    name = "sharegpt"

    def dump(self, example: Example) -> Iterator[dict[str, Any]]:
        """Yield one row per learned answer."""
        for single in example.singles():
            messages = list(single.messages)
            row: dict[str, Any] = {}
            if messages[0]["role"] == "system":
                row["system"] = messages.pop(0)["content"] or ""
            row["conversations"] = [_turn(message) for message in messages]
            row["tools"] = json.dumps(list(single.tools), ensure_ascii=False)
            yield row

    def load(self, row: Mapping[str, Any]) -> Example:
        """Return the example; its last turn is what is learned."""
        turns = row.get("conversations")
        if not isinstance(turns, list) or not turns:
            raise InputError("a row has no conversations", hint='{"conversations": [...]}')
        messages: list[Message] = []
        if "system" in row:
            messages.append({"role": "system", "content": row["system"]})
        waiting: list[str] = []
        for turn in turns:
            messages.append(_from_turn(turn, len(messages), waiting))
        tools = tuple(_json(row.get("tools") or "[]", "tools"))
        return Example(tuple(messages), tools, (len(messages) - 1,))


def _turn(message: Message) -> dict[str, Any]:
    role, text = message["role"], message.get("content")
    calls = message.get("tool_calls")
    if calls:
        made = [
            {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for call in calls
        ]
        turn = {"from": "function_call", "value": json.dumps(made, ensure_ascii=False)}
        return {**turn, "text": text} if text else turn
    name = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}[role]
    return {"from": name, "value": text or ""}


def _from_turn(turn: Mapping[str, Any], place: int, waiting: list[str]) -> Message:
    """Return a turn as a message; `waiting` are the ids of calls that have no result yet."""
    who, value = turn.get("from"), turn.get("value")
    if who == "function_call":
        made = _json(str(value), "a function_call")
        made = [made] if isinstance(made, dict) else made
        ids = [f"call_{place}_{i}" for i in range(len(made))]
        waiting[:] = ids
        calls = [
            {"id": call_id, "function": dict(call)} for call_id, call in zip(ids, made, strict=True)
        ]
        return plain({"role": "assistant", "content": turn.get("text"), "tool_calls": calls})
    if who == "observation":
        return plain(
            {
                "role": "tool",
                "tool_call_id": waiting.pop(0) if waiting else "",
                "content": value,
            }
        )
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    return plain({"role": roles.get(str(who)), "content": value})


FORMATS: Mapping[str, Format] = {f.name: f for f in (OpenAIChat(), HuggingFace(), ShareGPT())}
FormatName = Literal["openai", "huggingface", "sharegpt"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a training file holds and by what right; written beside it as JSON."""

    format: str
    rows: int
    learned: int
    characters: int
    sha: str
    terms: Ruling
    split: str = ""
    redacted: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)


def export(
    path: Path | str,
    examples: Iterable[Example],
    *,
    format: FormatName = "openai",
    terms: Ruling,
    split: str = "",
    redacted: bool = False,
    reasons: Mapping[str, int] | None = None,
) -> Manifest:
    """Write examples to `path`, a manifest beside it, and return the manifest.

    The file appears whole or not at all. `reasons` is read at the end, so that a counter which
    grows while `examples` are drawn can be given.

    Raises:
        ConfigError: there is no example, or no such format, or the file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}", hint=f"one of {', '.join(sorted(FORMATS))}")
    path, writer = Path(path), FORMATS[format]
    part = path.with_name(path.name + ".part")
    rows = learned = characters = 0
    digest = hashlib.sha256()
    try:
        with part.open("w", encoding="utf-8", newline="\n") as out:
            for example in examples:
                learned += len(example.trained)
                for row in writer.dump(example):
                    line = json.dumps(row, ensure_ascii=False) + "\n"
                    out.write(line)
                    digest.update(line.encode())
                    rows, characters = rows + 1, characters + len(line)
        if not rows:
            raise ConfigError(
                "there is nothing to export: no positive trace", hint="see why rows were left out"
            )
        manifest = Manifest(
            format,
            rows,
            learned,
            characters,
            digest.hexdigest(),
            terms,
            split,
            redacted,
            dict(reasons or {}),
        )
        text = json.dumps(asdict(manifest), ensure_ascii=False, indent=1)
        path.with_name(path.name + ".manifest.json").write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        wrong = ConfigError(
            f"{str(path)!r} cannot be written: {error.strerror}", hint="does its folder exist?"
        )
        raise out_of(error) or wrong from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


def read_examples(path: Path | str, format: FormatName = "openai") -> Iterator[Example]:
    """Yield the examples of a training file."""
    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}", hint=f"one of {', '.join(sorted(FORMATS))}")
    for row in read_rows(path):
        yield FORMATS[format].load(row)


def _messages(row: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    value = row.get(name)
    if not isinstance(value, list) or not value:
        raise InputError(f"a row has no {name}", hint=f'{{"{name}": [{{"role": ...}}]}}')
    return tuple(plain(message) for message in value)


def _json(text: Any, what: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{what} is not JSON: {error}", hint="a JSON string") from error


def _is_answer(message: Message) -> bool:
    return bool(message["role"] == "assistant")


def _ends(example: Example) -> bool:
    return _is_answer(example.messages[-1])
