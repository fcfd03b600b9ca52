"""Replays recorded conversations through a real agent and bills them.

The customer's turns and the tools' results are those recorded; the recorded assistant answers as
the emulator's brain, which refuses any request that is not the recorded one. So a replay that
ends proves that nothing was dropped or changed on the way, and its bill is that of real calls.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool

from agentmesh import canonical
from agentmesh.agent import Agent
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError
from agentmesh.memory import Memory
from agentmesh.routing import Router, Rules
from agentmesh.testing import Recordings, emulator
from agentmesh.tiers import Tier
from agentmesh.tools import context, schema_tool

DEFAULT_MODEL = "anthropic:claude-opus-5-5"
MAX_CHARS = 10_000_000
_KEY = "replay"


@dataclass(frozen=True)
class Conversation:
    """A recorded conversation: OpenAI-style chat messages."""

    id: str
    messages: tuple[Mapping[str, Any], ...]

    @property
    def system(self) -> str:
        """The recorded instructions."""
        return "\n\n".join(_text(m) for m in self.messages if m["role"] == "system")

    @property
    def spoken(self) -> tuple[Mapping[str, Any], ...]:
        """All messages but the instructions."""
        return tuple(m for m in self.messages if m["role"] != "system")

    @property
    def opening(self) -> str:
        """What the assistant said before the customer's first words."""
        first = self.spoken[0] if self.spoken else {"role": ""}
        return _text(first) if first["role"] == "assistant" else ""

    @property
    def requests(self) -> list[str]:
        """The customer's turns that were answered."""
        spoken = self.spoken
        return [
            _text(message)
            for message, after in zip(spoken, [*spoken[1:], None], strict=True)
            if message["role"] == "user" and after is not None
        ]

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Name, canonical arguments and result of every recorded tool call."""
        results: dict[str, deque[str]] = {}
        made = []
        for message in self.spoken:
            for call in message.get("tool_calls") or ():
                made.append((call["id"], call["function"]))
            if message["role"] == "tool":
                results.setdefault(message["tool_call_id"], deque()).append(_text(message))
        return [
            (
                function["name"],
                canonical.dumps(json.loads(function["arguments"] or "{}")),
                results[id_].popleft() if results.get(id_) else "",
            )
            for id_, function in made
        ]

    @property
    def steps(self) -> int:
        """How often the recorded assistant spoke after the customer's first words."""
        spoken = self.spoken
        first = next((i for i, m in enumerate(spoken) if m["role"] == "user"), len(spoken))
        return sum(m["role"] == "assistant" for m in spoken[first:])


@dataclass(frozen=True, slots=True)
class Replayed:
    """What replaying one or more files came to; money in micro-dollars, None where unknown."""

    conversations: int
    requests: int
    steps: int
    tool_calls: int
    refused: int
    escalated: int
    blocked: int
    usage: Usage
    cost: int | None
    input_cost: int | None
    input_uncached: int | None

    @property
    def read_share(self) -> float:
        """The share of the input that was read from the cache."""
        return self.usage.read / self.usage.input if self.usage.input else 0.0

    @property
    def input_ratio(self) -> float | None:
        """The whole input bill over that of the same calls uncached."""
        if self.input_cost is None or not self.input_uncached:
            return None
        return self.input_cost / self.input_uncached

    @property
    def requests_per_usd(self) -> float | None:
        """Requests for a dollar; None where the price is unknown or nothing was billed."""
        return self.requests * 1_000_000 / self.cost if self.cost else None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return {
            **asdict(self),
            "read_share": self.read_share,
            "input_ratio": self.input_ratio,
            "requests_per_usd": self.requests_per_usd,
        }


def read(path: Path) -> list[Conversation]:
    """Return the conversations of a JSON-lines file; a bad line is an InputError with its number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read: {error}", hint="give a JSONL file"
        ) from error
    found = [_conversation(line, path, n) for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{str(path)!r} holds no conversation", hint="one JSON object per line")
    return found


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Return the OpenAI-style tool schemas of a JSON file."""
    try:
        schemas = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read: {error}", hint="give a JSON file"
        ) from error
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise InputError(
            f"{str(path)!r} holds no list of tools", hint='[{"type": "function", "function": ...}]'
        )
    return schemas


def replay(
    conversations: Sequence[Conversation],
    schemas: Sequence[dict[str, Any]],
    *,
    model: str = DEFAULT_MODEL,
    cache: bool = True,
    interleaved: int = 1,
    progress: Callable[[int], None] = lambda _done: None,
) -> Replayed:
    """Drive an agent through recorded conversations and return what was billed.

    Args:
        conversations: made by `read`.
        schemas: the tools, made by `read_tools`.
        model: whose API and prices are used.
        cache: false leaves the prompt unmarked.
        interleaved: how many conversations run side by side.
        progress: called after each conversation with the number of those done.

    Raises:
        InputError: a conversation did not replay as it was recorded.
    """
    stage = _Stage(conversations, schemas)
    brain = Recordings([conversation.spoken for conversation in conversations])
    memory = Memory("sqlite://")
    with emulator(brain) as server:
        url = server.url if model.startswith("anthropic:") else server.openai_url
        tier = Tier("recorded", model, base_url=url, api_key=_KEY, cache=cache)
        agents: dict[tuple[str, str], Agent] = {}
        for conversation in conversations:
            key = (conversation.system, conversation.opening)
            if key not in agents:
                agents[key] = _agent(key, stage.tools, tier, memory)
        done = blocked = 0
        with ThreadPoolExecutor(interleaved) as pool:
            work = [
                pool.submit(_run, agents[one.system, one.opening], stage, number, one)
                for number, one in enumerate(conversations)
            ]
            for future in work:
                blocked += future.result()
                done += 1
                progress(done)
        bills = list(server.bills)
    memory.verify()
    escalated = sum(call.outcome != "ok" for call in memory.ledger.calls())
    memory.close()
    return _sum(conversations, bills, model, escalated=escalated, blocked=blocked)


class _Stage:
    """The recorded tools: each call is answered with the result that was recorded for it."""

    def __init__(
        self, conversations: Sequence[Conversation], schemas: Sequence[dict[str, Any]]
    ) -> None:
        self._left: dict[str, dict[tuple[str, str], deque[str]]] = {}
        self._open: dict[str, int] = {}
        self._ends: dict[str, bool] = {}
        for number, conversation in enumerate(conversations):
            results: dict[tuple[str, str], deque[str]] = defaultdict(deque)
            for name, arguments, result in conversation.calls:
                results[name, arguments].append(result)
            session = session_of(number, conversation)
            self._left[session] = results
            self._open[session] = len(conversation.calls)
            self._ends[session] = conversation.spoken[-1]["role"] == "tool"
        self.tools = [self._tool(schema) for schema in schemas]

    def left(self, session: str) -> int:
        """Return how many recorded calls a session has not made."""
        return self._open[session]

    def _tool(self, schema: dict[str, Any]) -> BaseTool:
        name = schema.get("function", schema).get("name", "")

        def run(arguments: dict[str, Any]) -> str:
            session = context().session
            results = self._left[session].get((name, canonical.dumps(arguments)))
            if not results:
                raise InputError(f"{name}({arguments}) was not recorded")
            self._open[session] -= 1
            return results.popleft()

        return schema_tool(
            schema,
            run,
            strict=False,
            timeout_s=None,
            max_chars=MAX_CHARS,
            final=lambda _result: self._over(context().session),
        )

    def _over(self, session: str) -> bool:
        """Say whether the recording ends with the result that was just given."""
        return self._ends[session] and self._open[session] == 0


def session_of(number: int, conversation: Conversation) -> str:
    """Return the session that a conversation is replayed in."""
    return f"{number}-{conversation.id}"[:200]


def _agent(key: tuple[str, str], tools: list[BaseTool], tier: Tier, memory: Memory) -> Agent:
    system, opening = key
    return Agent(
        "replay",
        system or "You are an assistant.",
        tools=tools,
        tiers=[tier],
        memory=memory,
        router=Router(Rules(()), max_chars=MAX_CHARS),
        checks=(),
        opening=opening,
        compaction=None,
        max_input_chars=MAX_CHARS,
        max_steps=200,
    )


def _run(agent: Agent, stage: _Stage, number: int, conversation: Conversation) -> int:
    """Replay one conversation and return how many of its requests were blocked."""
    session = session_of(number, conversation)
    replies = [
        agent.invoke(text, user=f"customer-{number}", session=session)
        for text in conversation.requests
    ]
    if stage.left(session):
        raise InputError(
            f"{conversation.id}: {stage.left(session)} recorded tool calls were not made",
            hint="is the recording whole?",
        )
    return sum(reply.blocked is not None for reply in replies)


def _sum(
    conversations: Sequence[Conversation],
    bills: Sequence[Any],
    model: str,
    *,
    escalated: int,
    blocked: int,
) -> Replayed:
    usage, cost, known = Usage(), 0, True
    for bill in bills:
        usage += bill.usage
        known &= bill.cost_micro is not None
        cost += bill.cost_micro or 0
    book = PriceBook()
    per_call = [(bill.usage, book.price(model, input_tokens=bill.usage.input)) for bill in bills]
    paid = uncached = Decimal(0)
    for used, price in per_call:
        if price is None:
            known = False
            continue
        whole = price.complete(model)
        paid += whole.cost(Usage(used.fresh, used.read, used.write, used.write_long))
        uncached += whole.cost(Usage(fresh=used.input))
    expected = sum(conversation.steps for conversation in conversations)
    accepted = sum(bill.status == 200 for bill in bills)
    if accepted != expected:
        raise InputError(
            f"{expected} recorded steps, but {accepted} requests were accepted",
            hint="is the recording whole?",
        )
    return Replayed(
        conversations=len(conversations),
        requests=sum(len(conversation.requests) for conversation in conversations),
        steps=accepted,
        tool_calls=sum(len(conversation.calls) for conversation in conversations),
        refused=sum(bill.status != 200 for bill in bills),
        escalated=escalated,
        blocked=blocked,
        usage=usage,
        cost=cost if known else None,
        input_cost=int(paid) if known else None,
        input_uncached=int(uncached) if known else None,
    )


def _conversation(line: str, path: Path, number: int) -> Conversation:
    hint = 'one {"id": ..., "messages": [...]} per line'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path.name}:{number} is not JSON: {error}", hint=hint) from error
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{path.name}:{number} has no messages", hint=hint)
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise InputError(f"{path.name}:{number} has the message {message!r:.80}", hint=hint)
        for call in message.get("tool_calls") or ():
            _check_call(call, f"{path.name}:{number}")
    return Conversation(str(row.get("id", number)), tuple(messages))


def _check_call(call: Any, where: str) -> None:
    try:
        arguments = json.loads(call["function"]["arguments"] or "{}")
        whole = bool(call["id"] and call["function"]["name"]) and isinstance(arguments, dict)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"{where} has the tool call {call!r:.80}", hint="it needs an id, a name and arguments"
        )


_ROLES = ("system", "user", "assistant", "tool")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


def total(results: Sequence[Replayed]) -> Replayed:
    """Return the sum of several replays; a bill with an unknown part is unknown."""

    def summed(name: str) -> int | None:
        values = [getattr(result, name) for result in results]
        return None if any(value is None for value in values) else sum(values)

    return Replayed(
        conversations=sum(result.conversations for result in results),
        requests=sum(result.requests for result in results),
        steps=sum(result.steps for result in results),
        tool_calls=sum(result.tool_calls for result in results),
        refused=sum(result.refused for result in results),
        escalated=sum(result.escalated for result in results),
        blocked=sum(result.blocked for result in results),
        usage=sum((result.usage for result in results), Usage()),
        cost=summed("cost"),
        input_cost=summed("input_cost"),
        input_uncached=summed("input_uncached"),
    )
