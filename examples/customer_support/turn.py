"""A request as a stand-in model reads it: the customer's words, the facts, what tools answered.

Stand-ins keep no state. All that they know is in the request, as it would be for a real model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from agentmesh import canonical
from agentmesh.emulator import Message, Request
from agentmesh.examples.customer_support.wishes import (
    ACTING,
    Wish,
    language_of,
    orders_in,
    wishes_in,
)

_NOTE = re.compile(r"<memory-update>(.*?)</memory-update>", re.DOTALL)
_RETRY = re.compile(r"Your previous draft was not used:.*?Answer again\.", re.DOTALL)
_PROFILE = re.compile(r"<profile>(.*?)</profile>", re.DOTALL)
_FACT = re.compile(r"^(?:profile\.)?([\w.-]+): (\".*?\"|\d+)(?: \[.*\])?$", re.MULTILINE)
_CODES = {"german": "de", "english": "en", "french": "fr", "spanish": "es"}
_CLOSING_WORDS = frozenset({"thanks", "greeting", ""})

Arguments = dict[str, Any]


class Missing(Exception):
    """The turn cannot go on before a tool has been called."""

    def __init__(self, name: str, arguments: Arguments) -> None:
        super().__init__(name)
        self.name = name
        self.arguments = arguments


class ToolFailed(Exception):
    """A tool answered that it could not."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn that a request asks to go on with."""

    text: str
    language: str
    profile: Mapping[str, str]
    first: bool
    earlier: tuple[str, ...]
    questions: int
    order: str
    wishes: tuple[Wish, ...]
    results: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return what the tool answered in this turn.

        Raises:
            Missing: it was not called yet.
            ToolFailed: it answered with an error.
        """
        text = self.results.get((name, canonical.dumps(arguments)))
        if text is None:
            raise Missing(name, arguments)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ToolFailed(text) from error
        if not isinstance(value, dict):
            raise ToolFailed(text)
        return value

    def say(self, phrase: str, **values: object) -> str:
        """Return a phrase in the turn's language, or in English where there is none in it."""
        texts = phrases()[phrase]
        return texts.get(self.language, texts["en"]).format(**values)


@cache
def phrases() -> dict[str, dict[str, str]]:
    """Return what the stand-ins can say, by phrase and language."""
    text = files("agentmesh.examples.customer_support").joinpath("data/phrases.json")
    loaded: dict[str, dict[str, str]] = json.loads(text.read_text(encoding="utf-8"))
    return loaded


def read(request: Request) -> Turn:
    """Return the turn of a request."""
    messages = request.messages
    last = max((i for i, m in enumerate(messages) if _words(m)), default=-1)
    if last < 0:
        return Turn("", "en", {}, True, (), 0, "", ())
    text = _words(messages[last])
    before = messages[:last]
    earlier = tuple(words for message in before if (words := _words(message)))
    answers = [m.text for m in before if m.role == "assistant" and m.text and not m.calls]
    asked = bool(answers) and answers[-1].rstrip().endswith("?")
    facts = _facts(request)
    return Turn(
        text=text,
        language=_language(facts, text, earlier),
        profile=facts,
        first=not answers,
        earlier=earlier,
        questions=_trailing_questions(answers),
        order=_order_before(before),
        wishes=tuple(_wishes(text, earlier, asked=asked)),
        results=_results(messages[last + 1 :]),
    )


def _words(message: Message) -> str:
    """Return what the customer wrote in a message, without the agent's own notes."""
    if message.role != "user":
        return ""
    return _RETRY.sub("", _NOTE.sub("", message.text)).strip()


def _facts(request: Request) -> dict[str, str]:
    found = "\n".join(_PROFILE.findall(request.system))
    notes = "\n".join(note for m in request.messages for note in _NOTE.findall(m.text))
    return {key: value.strip('"') for key, value in _FACT.findall(f"{found}\n{notes}")}


def _language(facts: Mapping[str, str], text: str, earlier: tuple[str, ...]) -> str:
    wanted = facts.get("language", "").casefold()
    if wanted in _CODES:
        return _CODES[wanted]
    for words in (text, *reversed(earlier)):
        if found := language_of(words):
            return found
    return "en"


def _trailing_questions(answers: list[str]) -> int:
    count = 0
    for answer in reversed(answers):
        if not answer.rstrip().endswith("?"):
            break
        count += 1
    return count


def _order_before(messages: tuple[Message, ...]) -> str:
    """Return the order that the session spoke of last."""
    for message in reversed(messages):
        called = [number for call in message.calls for number in orders_in(call.arguments)]
        spoken = called or (orders_in(message.text) if message.role == "user" else [])
        if spoken:
            return spoken[-1]
    return ""


def _wishes(text: str, earlier: tuple[str, ...], *, asked: bool) -> list[Wish]:
    """Return the message's wishes; an answer to a question belongs to the wish before it."""
    wishes = wishes_in(text)
    answers = not any(wish.intent not in _CLOSING_WORDS for wish in wishes)
    thanks = any(wish.intent == "thanks" for wish in wishes)
    if not (answers and asked and earlier and not thanks):
        return wishes
    open_wishes: list[Wish] = []
    said = [text]
    for words in reversed(earlier):
        said.insert(0, words)
        open_wishes = [w for w in wishes_in(words) if w.intent in ACTING | {"product"}]
        if open_wishes:
            break
    numbers = orders_in(text)
    return [
        Wish(wish.intent, "\n".join(said), numbers[0] if numbers else wish.order)
        for wish in open_wishes[-1:]
    ] or wishes


def _results(messages: tuple[Message, ...]) -> dict[tuple[str, str], str]:
    calls = {call.id: call for message in messages for call in message.calls}
    found: dict[tuple[str, str], str] = {}
    for message in messages:
        call = calls.get(message.call_id) if message.role == "tool" else None
        if call is None:
            continue
        try:
            arguments = canonical.dumps(json.loads(call.arguments or "{}"))
        except ValueError:
            continue
        found[call.name, arguments] = message.text
    return found
