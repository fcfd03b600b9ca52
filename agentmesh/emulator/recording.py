"""A brain that replays a recorded conversation, and notices when the replay strays from it.

It keeps no state: how many times the model has spoken in the request says which recorded step
comes next. So calls may be repeated, and conversations may run in parallel.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh.emulator.brain import Answer, Call, Fault, Message, Request
from agentmesh.errors import InputError

_SHOWN_CHARS = 60

_BLANKS = ("", "(empty)", "(no output)")
"""What clients send for a tool's empty result, where an API refuses blank text."""


class _Heard(NamedTuple):
    """What the model is told between two of its steps."""

    results: tuple[str, ...]
    words: tuple[str, ...]


class _Step(NamedTuple):
    """One recorded answer, and what came before it."""

    heard: _Heard
    answer: Answer


class Recording:
    """Replays one conversation: OpenAI-style chat messages, as logs have them.

    Every request is compared with the recording: the user's words and the tools' results since
    the model last spoke must be the recorded ones, or the answer is status 400 and names the
    difference. What the assistant said before the user's first words is not a step.

    >>> brain = Recording([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}])
    >>> len(brain.steps)
    1
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self.steps: tuple[_Step, ...] = tuple(_steps(messages))
        opening = next((_text(m) for m in messages if m["role"] == "user"), None)
        if opening is None:
            raise InputError(
                "the recording has no user message",
                hint="give chat messages with roles user, assistant and tool",
            )
        self.opening: str = opening

    def __call__(self, request: Request) -> Answer:
        """Return the recorded answer, or a refusal that says where the request strays."""
        return self.answer(_from_words(request.messages, {self.opening}))

    def answer(self, messages: Sequence[Message]) -> Answer:
        """Return the recorded answer to messages that start with the user's first words."""
        number = _spoken(messages)
        if number >= len(self.steps):
            return _stray(
                f"the recording has {len(self.steps)} assistant messages, the request has as many"
            )
        step = self.steps[number]
        difference = _difference(step.heard, messages)
        if difference:
            return _stray(f"assistant message {number + 1}: {difference}")
        return step.answer


class Recordings:
    """Replays many conversations at once; each request finds its own by what was said so far.

    Where several recordings have all that was said, they take turns in their order: replay them
    in that order, each once.
    """

    def __init__(self, conversations: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        self._asked: Counter[object] = Counter()
        self._first: dict[str, list[Recording]] = {}
        for messages in conversations:
            recording = Recording(messages)
            self._first.setdefault(recording.opening, []).append(recording)
        if not self._first:
            raise InputError("there are no recordings", hint="give at least one conversation")

    @classmethod
    def from_file(cls, path: str | Path) -> Recordings:
        """Return the recordings of a file of JSON lines, each `{"messages": [...]}` or a list.

        Raises:
            InputError: the file cannot be read, or a line, which is named, is no conversation.
        """
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"recording {str(path)!r} cannot be read: {error}", hint="give a file of JSON lines"
            ) from error
        return cls(_line(path, n, line) for n, line in enumerate(lines, 1) if line.strip())

    def __call__(self, request: Request) -> Answer:
        """Return the recorded answer of the conversation that this request belongs to."""
        messages = _from_words(request.messages, self._first)
        first = messages[0] if messages else Message("user")
        candidates = [
            recording
            for words in dict.fromkeys((first.text, *first.parts))
            for recording in self._first.get(words, ())
        ]
        if not candidates:
            return _stray(f"no recording begins with {_short(first.text)}")
        if len(candidates) > 1:
            candidates = [one for one in candidates if _fits(one, messages)] or candidates
        if len(candidates) == 1:
            return candidates[0].answer(messages)
        # call ids differ between two runs of the same words, so they do not count here
        said = tuple(
            (m.role, m.text, tuple((call.name, call.arguments) for call in m.calls))
            for m in messages
        )
        number = self._asked[request.model, said]
        self._asked[request.model, said] += 1
        return candidates[number % len(candidates)].answer(messages)


def _line(path: str | Path, number: int, line: str) -> list[Mapping[str, Any]]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"recording {str(path)!r}, line {number}: not JSON: {error}",
            hint="write one conversation a line",
        ) from error
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise InputError(
            f"recording {str(path)!r}, line {number}: no messages",
            hint='write {"messages": [{"role": "user", "content": "..."}, ...]}',
        )
    return messages


def _steps(messages: Sequence[Mapping[str, Any]]) -> Iterable[_Step]:
    results: dict[str, str] = {}
    asked: list[str] = []
    words: list[str] = []
    begun = False
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise InputError(
                f"recorded message {index} has role {role!r}",
                hint="give chat messages with roles system, user, assistant and tool",
            )
        if role == "user":
            begun = True
            words.append(_text(message))
        elif role == "tool":
            results[str(message.get("tool_call_id", ""))] = _text(message)
        elif role == "assistant" and begun:
            heard = _Heard(tuple(results[id_] for id_ in asked if id_ in results), tuple(words))
            calls = [_call(call, index) for call in message.get("tool_calls") or ()]
            answer = Answer(_text(message), [(call.name, call.arguments) for call in calls])
            yield _Step(heard, answer)
            results, words, asked = {}, [], [call.id for call in calls]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        texts = (part.get("text", "") for part in content if isinstance(part, Mapping))
        return "\n".join(text for text in texts if text)
    raise InputError(f"recorded content {content!r} is no text", hint="give text or text parts")


def _call(call: Any, index: int) -> Call:
    try:
        function = call["function"]
        return Call(str(call["id"]), function["name"], function["arguments"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"recorded message {index} has the tool call {call!r}",
            hint='give {"id": ..., "function": {"name": ..., "arguments": "..."}}',
        ) from error


def _from_words(messages: Sequence[Message], openings: Container[str]) -> Sequence[Message]:
    """Return the messages from the user's first recorded words on.

    What stands before them is not recorded: an assistant's greeting, and what a client puts
    before it where the API wants the user to speak first.
    """
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    for index in users:
        if any(text in openings for text in (messages[index].text, *messages[index].parts)):
            return messages[index:]
    return messages[users[0] :] if users else ()


def _spoken(messages: Sequence[Message]) -> int:
    return sum(message.role == "assistant" for message in messages)


def _difference(heard: _Heard, messages: Sequence[Message]) -> str:
    """Say how what the model was told last differs from what was recorded; "" if it does not."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    order = {call.id: n for n, call in enumerate(messages[last].calls)} if last >= 0 else {}
    turn = messages[last + 1 :]
    told = sorted(
        (m for m in turn if m.role == "tool"), key=lambda m: order.get(m.call_id, len(order))
    )
    results = tuple(message.text for message in told)
    if len(results) != len(heard.results):
        return f"{len(heard.results)} tool results were recorded, the request has {len(results)}"
    for number, (recorded, result) in enumerate(zip(heard.results, results, strict=True), 1):
        if recorded != result and (recorded.strip() or result not in _BLANKS):
            return f"tool result {number} {_differs(recorded, result)}"
    said = [(m.text, *m.parts) for m in turn if m.role == "user"]
    for recorded in heard.words:
        if not any(recorded in texts for texts in said):
            there = said[-1][0] if said else ""
            return f"the user's words {_differs(recorded, there)}"
    return ""


def _fits(recording: Recording, messages: Sequence[Message]) -> bool:
    """Return whether everything said so far is what `recording` has."""
    number = 0
    for index, message in enumerate(messages):
        if message.role != "assistant" or not any(m.role == "user" for m in messages[:index]):
            continue
        if number >= len(recording.steps):
            return False
        if _difference(recording.steps[number].heard, messages[:index]):
            return False
        number += 1
    return number < len(recording.steps) and not _difference(
        recording.steps[number].heard, messages
    )


def _differs(recorded: str, there: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(recorded, there, strict=False)) if a != b),
        min(len(recorded), len(there)),
    )
    start = max(0, at - 20)
    return (
        f"differ at character {at}: recorded {_short(recorded[start:])}, "
        f"the request has {_short(there[start:])}"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _stray(message: str) -> Answer:
    return Answer(fault=Fault("status", status=400, message=f"not as recorded: {message}"))
