"""Traces: one model call each, as a prompt and the answer that the teacher gave to it.

Prompts and answers are OpenAI chat messages with plain string contents: what a student behind a
Chat Completions server is sent, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentmesh.errors import ConfigError, InputError

Message = dict[str, Any]
"""An OpenAI chat message: `role`, `content`, and `tool_calls` or `tool_call_id`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: of its own tools, of its turn, of its conversation.

    `status` is how the turn ended (`done`, `interrupted`, "" where it is still open), `score`
    the mean of the feedback on it (None without any), `reward` what the whole conversation
    earned. `errors` counts the tools called here that failed, `steps` the calls of the turn, and
    `escalated` says that a cheaper tier's draft had failed at this very step.
    """

    status: str = "done"
    score: float | None = None
    reward: float | None = None
    labels: tuple[str, ...] = ()
    errors: int = 0
    steps: int = 1
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One call: the prompt, the tools, the answer, whose answer it was and what came of it."""

    id: str
    conversation: str
    customer: str
    turn: int
    step: int
    prompt: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    answer: Message
    teacher: str
    tier: str = "flagship"
    kind: str = ""
    cost: int | None = None
    latency_s: float = 0.0
    clean: bool = True
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def action(self) -> str:
        """What the answer does: the names of the tools it calls, or `say`."""
        names = [call["function"]["name"] for call in self.answer.get("tool_calls") or ()]
        return "+".join(sorted(names)) or "say"

    @property
    def asked(self) -> str:
        """The customer's latest words in the prompt."""
        said = (m["content"] for m in reversed(self.prompt) if m["role"] == "user")
        return str(next(said, "") or "")


def plain(message: Mapping[str, Any]) -> Message:
    """Return a recorded message with the fields that a model is shown, in one order."""
    role = message.get("role")
    if role not in ("system", "user", "assistant", "tool"):
        raise InputError(f"{role!r} is not a message's role", hint="system, user, assistant, tool")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise InputError(f"a content is {type(content).__name__}", hint="use plain text")
    if role == "tool":
        call_id = str(message.get("tool_call_id") or "")
        return {"role": role, "tool_call_id": call_id, "content": content or ""}
    shown: Message = {"role": role, "content": content}
    if role == "assistant" and message.get("tool_calls"):
        shown["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return shown


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    try:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{call!r} is not a tool call", hint='{"id", "function": {"name", "arguments"}}'
        ) from error
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": str(name), "arguments": arguments}
    return {"id": str(call.get("id") or ""), "type": "function", "function": function}


def conversation_traces(
    row: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] = (), *, teacher: str = ""
) -> list[Trace]:
    """Return the calls of one recorded conversation (`messages`, `id`, `model`, `reward`, ...)."""
    if not isinstance(row.get("messages"), list) or not row["messages"]:
        raise InputError("a conversation has no messages", hint='{"messages": [...], "id": ...}')
    messages = [plain(message) for message in row["messages"]]
    name = str(row.get("id") or "")
    failed = _failed_results(row["messages"])
    shown = tuple(dict(tool) for tool in tools)
    traces: list[Trace] = []
    turn = step = 0
    for i, message in enumerate(messages):
        if message["role"] == "user":
            turn, step = turn + 1, 0
        if message["role"] != "assistant" or turn == 0:
            continue
        step += 1
        traces.append(
            Trace(
                id=f"{name}:{i}",
                conversation=name,
                customer=str(row.get("customer") or ""),
                turn=turn,
                step=step,
                prompt=tuple(messages[:i]),
                tools=shown,
                answer=message,
                teacher=teacher or str(row.get("model") or ""),
                cost=_micro(row["messages"][i].get("cost_usd")),
                outcome=Outcome(
                    status="interrupted" if _abnormal(row) else "done",
                    reward=row.get("reward"),
                    errors=sum(c["id"] in failed for c in message.get("tool_calls") or ()),
                ),
            )
        )
    return _with_steps(traces)


def _with_steps(traces: Sequence[Trace]) -> list[Trace]:
    from dataclasses import replace

    steps: dict[int, int] = {}
    for trace in traces:
        steps[trace.turn] = max(steps.get(trace.turn, 0), trace.step)
    return [replace(t, outcome=replace(t.outcome, steps=steps[t.turn])) for t in traces]


def _abnormal(row: Mapping[str, Any]) -> bool:
    return str(row.get("termination") or "user_stop") not in ("user_stop", "agent_stop")


def _failed_results(messages: Iterable[Mapping[str, Any]]) -> set[str]:
    return {
        str(m.get("tool_call_id"))
        for m in messages
        if m.get("role") == "tool" and str(m.get("content") or "").startswith("Error")
    }


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * 1_000_000)


def read_rows(path: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file, one at a time, naming a line that is none."""
    path = Path(path)
    try:
        lines = path.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path.name}, line {number}: {error}", hint="one JSON object per line"
                ) from error
            if not isinstance(row, dict):
                raise InputError(
                    f"{path.name}, line {number} is no object", hint="one JSON object per line"
                )
            yield row
