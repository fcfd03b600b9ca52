"""Chat logs in the forms that people have, as one: prompts, the steps made on them, what they used.

Known are OpenAI-style lines (a conversation, or a request with its response), Anthropic request
logs, LangSmith runs, OpenTelemetry GenAI spans, and tau-bench and tau2-bench files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentmesh.audit.pieces import (
    Flaw,
    Log,
    Part,
    Step,
    is_marked,
    model_of,
    part_of,
    time_of,
    tools_of,
    usage_of,
)
from agentmesh.audit.traces import is_span, langsmith, spans

UNKNOWN = "a record of unknown form"
FORMATS = "OpenAI-style JSONL, Anthropic requests, LangSmith runs, OpenTelemetry GenAI, tau2-bench"


def read(value: Any, tools: Sequence[Part] = ()) -> Iterator[Log]:
    """Yield the logs that a record holds; none if it is a trace of something else than a model.

    Raises:
        Flaw: its form is unknown, or it cannot be right.
    """
    if not isinstance(value, dict):
        raise Flaw(UNKNOWN)
    if "resourceSpans" in value or "scopeSpans" in value or is_span(value):
        yield from spans(value)
    elif value.get("run_type") is not None:
        if value["run_type"] == "llm":
            yield from langsmith(value)
    elif "traj" in value:
        yield from _conversation({**value, "messages": value["traj"]}, "tau-bench", tools)
    elif isinstance(value.get("messages"), list) and _is_tau2(value):
        yield from _conversation(value, "tau2-bench", tools)
    else:
        yield from _request(value, tools)


def _is_tau2(value: Mapping[str, Any]) -> bool:
    return ("reward" in value or "reward_info" in value) and (
        "task" in value or "task_id" in value or "termination_reason" in value
    )


def _conversation(value: Mapping[str, Any], form: str, tools: Sequence[Part]) -> Iterator[Log]:
    """Yield a whole conversation: every answer after the user's first word is a step."""
    own = tools_of(value.get("tools"))
    parts: list[Part] = [*(own or tools)]
    steps: list[Step] = []
    asked = False
    for message in value["messages"]:
        if not isinstance(message, dict):
            raise Flaw(f"a message is {type(message).__name__}, not an object")
        role = str(message.get("role") or message.get("type") or "user")
        part = part_of(role, message)
        if role in ("assistant", "ai") and asked:
            steps.append(_step(len(parts), part, message))
        asked = asked or role in ("user", "human")
        parts.append(part)
    if not steps:
        raise Flaw("a conversation without an answer")
    session = str(value.get("id") or value.get("task_id") or value.get("task") or "")
    yield Log(form, session, model_of(value), parts, steps)


def _step(upto: int, part: Part, message: Mapping[str, Any]) -> Step:
    usage = message.get("usage")
    prompt, output, used = usage_of(usage) if isinstance(usage, dict) else (None, None, None)
    cost = message.get("cost_usd", message.get("cost"))
    return Step(
        upto,
        part.tokens if output is None else output,
        part.calls,
        prompt,
        used,
        time_of(message.get("timestamp")),
        float(cost) if isinstance(cost, int | float) else None,
        part.text,
    )


def _request(value: Mapping[str, Any], tools: Sequence[Part]) -> Iterator[Log]:
    """Yield one request of OpenAI or Anthropic, bare or wrapped by whoever logged it."""
    body = value
    for name in ("request", "body", "params", "kwargs"):
        inside = body.get(name)
        if isinstance(inside, dict):
            body = inside
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        schema = "input_schema" in value or isinstance(value.get("function"), dict)
        raise Flaw("a tool schema, not a log" if schema else UNKNOWN)
    response = _response(value) or _response(body)
    last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
    if response is None and not isinstance(value.get("usage"), dict):
        if last.get("role") != "assistant":
            raise Flaw("a request without its response")
        yield from _conversation({**value, **body, "messages": messages}, "openai", tools)
        return
    model = model_of(body) or model_of(response or {}) or model_of(value)
    parts = [*(tools_of(body.get("tools")) or tools)]
    for name in ("system", "instructions"):
        if body.get(name):
            parts.append(part_of("system", {"content": body[name]}))
    parts += [
        part_of(str(m.get("role") or m.get("type") or "user"), m)
        for m in messages
        if isinstance(m, dict)
    ]
    yield Log(
        "anthropic" if model.startswith("anthropic:") else "openai",
        _session(value, body),
        model,
        parts,
        [_answered(len(parts), value, response)],
        marked="cache_control" in body or any(is_marked(m) for m in (body, *messages)),
    )


def _response(value: Mapping[str, Any]) -> dict[str, Any] | None:
    for name in ("response", "output", "completion", "result"):
        found = value.get(name)
        if isinstance(found, dict):
            inside = found.get("body")
            return inside if isinstance(inside, dict) else found
    return None


def _answered(upto: int, value: Mapping[str, Any], response: dict[str, Any] | None) -> Step:
    answer = response or {}
    message: Any = answer
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message") or {}
    part = part_of("assistant", message)
    usage = answer.get("usage") or value.get("usage")
    prompt, output, used = usage_of(usage) if isinstance(usage, dict) else (None, None, None)
    at = None
    for name in ("timestamp", "created_at", "created", "time", "started_at", "start_time"):
        for where in (value, answer):
            at = time_of(where.get(name)) if at is None else at
    return Step(
        upto,
        part.tokens if output is None else output,
        part.calls,
        prompt,
        used,
        at,
        None,
        part.text,
    )


def _session(value: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
    for where in (value, body, metadata or {}):
        for name in ("session_id", "session", "conversation_id", "thread_id", "conversation"):
            if isinstance(where.get(name), str | int):
                return str(where[name])
    return ""
