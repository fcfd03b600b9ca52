"""Chat logs as tracers export them: LangSmith runs and OpenTelemetry GenAI spans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentmesh.audit.pieces import (
    Flaw,
    Log,
    Step,
    named,
    part_of,
    time_of,
    tools_of,
    usage_of,
)


def langsmith(run: Mapping[str, Any]) -> Iterator[Log]:
    """Yield the request of an LLM run of LangSmith."""
    inputs, outputs = run.get("inputs") or {}, run.get("outputs") or {}
    metadata = (run.get("extra") or {}).get("metadata") or {}
    params = (run.get("extra") or {}).get("invocation_params") or {}
    messages = inputs.get("messages") or []
    if messages and isinstance(messages[0], list):
        messages = messages[0]
    if not messages:
        return
    vendor = metadata.get("ls_provider") or ""
    model = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or ""
    parts = tools_of(params.get("tools"))
    parts += [part_of(*_langchain(message)) for message in messages if isinstance(message, dict)]
    usage = outputs.get("usage_metadata") or {}
    generations = outputs.get("generations") or []
    answer = outputs.get("message") or outputs
    if generations:
        first = generations[0][0] if isinstance(generations[0], list) else generations[0]
        answer = first.get("message") or first
    part = part_of(*_langchain(answer if isinstance(answer, dict) else {}))
    kwargs = answer.get("kwargs", answer) if isinstance(answer, dict) else {}
    usage = usage or kwargs.get("usage_metadata") or _run_usage(run)
    prompt, output, used = usage_of(usage) if usage else (None, None, None)
    session = metadata.get("thread_id") or metadata.get("session_id") or run.get("trace_id") or ""
    yield Log(
        "langsmith",
        str(session),
        named(str(vendor), str(model)),
        parts,
        [
            Step(
                len(parts),
                part.tokens if output is None else output,
                part.calls,
                prompt,
                used,
                time_of(run.get("start_time")),
                None,
                part.text,
            )
        ],
    )


def _langchain(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the role and the fields of a message as LangChain writes it."""
    fields = message.get("kwargs") if isinstance(message.get("kwargs"), dict) else message
    inside = message.get("data") if isinstance(message.get("data"), dict) else fields
    found: Mapping[str, Any] = inside or {}
    ident = message.get("id")
    kind = ident[-1] if isinstance(ident, list) and ident else ""
    role = str(found.get("role") or found.get("type") or message.get("type") or kind)
    role = role.lower().removesuffix("chunk").removesuffix("message") or "user"
    return {"human": "user", "ai": "assistant"}.get(role, role), found


def _run_usage(run: Mapping[str, Any]) -> dict[str, Any]:
    if run.get("prompt_tokens") is None:
        return {}
    return {
        "prompt_tokens": run["prompt_tokens"],
        "completion_tokens": run.get("completion_tokens") or 0,
    }


def spans(value: Mapping[str, Any]) -> Iterator[Log]:
    """Yield the requests in an OTLP export, or in one span."""
    for resource in value.get("resourceSpans") or [value]:
        for scope in resource.get("scopeSpans") or [resource]:
            for span in scope.get("spans") or [scope]:
                if isinstance(span, dict):
                    yield from _span(span)


def is_span(value: Mapping[str, Any]) -> bool:
    """Say whether a record is one span of its own."""
    attributes = value.get("attributes")
    if isinstance(attributes, dict):
        return any(str(key).startswith("gen_ai.") for key in attributes)
    return isinstance(attributes, list) and "spanId" in value


def _span(span: Mapping[str, Any]) -> Iterator[Log]:
    found = _attributes(span)
    for event in span.get("events") or ():  # where some tracers put what was said
        if isinstance(event, dict):
            found = {**_attributes(event), **found}
    if str(found.get("gen_ai.operation.name", "chat")) not in ("chat", "text_completion"):
        return
    model = str(found.get("gen_ai.response.model") or found.get("gen_ai.request.model") or "")
    if not model:
        return
    asked = _messages(found, "gen_ai.input.messages", "gen_ai.prompt")
    if not asked:
        raise Flaw("a span that does not tell its messages: its tracer left content out")
    system = _json(found.get("gen_ai.system_instructions"))
    parts = tools_of(_json(found.get("gen_ai.tool.definitions")))
    if system:
        parts.append(part_of("system", {"content": system}))
    parts += [part_of(str(m.get("role", "user")), m) for m in asked]
    answers = _messages(found, "gen_ai.output.messages", "gen_ai.completion")
    part = part_of("assistant", answers[0] if answers else {})
    usage = {
        name: found[f"gen_ai.usage.{name}"] for name in _USAGE if f"gen_ai.usage.{name}" in found
    }
    prompt, output, used = usage_of(usage) if usage else (None, None, None)
    vendor = str(found.get("gen_ai.provider.name") or found.get("gen_ai.system") or "")
    session = found.get("gen_ai.conversation.id") or _trace(span)
    step = Step(
        len(parts),
        part.tokens if output is None else output,
        part.calls,
        prompt,
        used,
        time_of(span.get("startTimeUnixNano") or span.get("start_time")),
        None,
        part.text,
    )
    yield Log("otel", str(session), named(vendor, model), parts, [step])


_USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_read.input_tokens",
    "cache_write.input_tokens",
    "cache_creation.input_tokens",
)


def _attributes(value: Mapping[str, Any]) -> dict[str, Any]:
    given = value.get("attributes") or {}
    return dict(given) if isinstance(given, dict) else _pairs(given)


def _pairs(listed: Any) -> dict[str, Any]:
    return {pair["key"]: _any(pair.get("value")) for pair in listed}


def _trace(span: Mapping[str, Any]) -> str:
    context = span.get("context")
    inside = context.get("trace_id") if isinstance(context, dict) else None
    return str(span.get("traceId") or span.get("trace_id") or inside or "")


def _messages(found: Mapping[str, Any], name: str, older: str) -> list[dict[str, Any]]:
    """Return messages by their attribute, or by the older one: whole, or `OLDER.0.content`."""
    whole = _json(found.get(name) or found.get(older))
    if isinstance(whole, list):
        return [message for message in whole if isinstance(message, dict)]
    numbered: dict[int, dict[str, Any]] = {}
    for key, value in found.items():
        number, _, field = key.removeprefix(f"{older}.").partition(".")
        if key.startswith(f"{older}.") and number.isdigit() and field in ("role", "content"):
            numbered.setdefault(int(number), {})[field] = value
    return [numbered[number] for number in sorted(numbered)]


def _any(value: Any) -> Any:
    """Return the value of an OTLP attribute."""
    if not isinstance(value, dict):
        return value
    for name in ("stringValue", "boolValue", "doubleValue"):
        if name in value:
            return value[name]
    if "intValue" in value:
        return int(value["intValue"])
    if "kvlistValue" in value:
        return _pairs(value["kvlistValue"].get("values", []))
    return [_any(item) for item in (value.get("arrayValue") or {}).get("values", [])]


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
