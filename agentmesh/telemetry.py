"""OpenTelemetry: spans and metrics under the GenAI conventions, where they are asked for.

Nothing of OpenTelemetry is imported before a `Telemetry` is made, and nothing is sent but through
the providers that the application has set up. No text of a prompt or an answer is ever recorded.

The conventions are still in development: every name that is emitted stands here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage

from agentmesh.economy.usage import Usage
from agentmesh.errors import TierError, missing_extra
from agentmesh.providers import stop_of, usage_of

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import RunnableConfig
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from agentmesh.economy.prices import PriceBook

SCOPE = "agentmesh"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
CONVERSATION = "gen_ai.conversation.id"
AGENT = "gen_ai.agent.name"
TOOL = "gen_ai.tool.name"
TOOL_CALL = "gen_ai.tool.call.id"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
COST = "gen_ai.usage.cost.amount"
CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # a kind of tokens, no secret
ERROR_TYPE = "error.type"
CACHE_KIND = "agentmesh.cache.kind"
PURPOSE = "agentmesh.call.purpose"
TIER = "agentmesh.call.tier"
OUTCOME = "agentmesh.draft.outcome"
CHECK = "agentmesh.draft.check"

METRIC_TOKENS = "gen_ai.client.token.usage"
METRIC_DURATIONS = {
    "chat": "gen_ai.client.operation.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration",
    "execute_tool": "gen_ai.execute_tool.duration",
}
METRIC_FIRST = "gen_ai.client.operation.time_to_first_chunk"
METRIC_CACHE = "agentmesh.client.cache.tokens"
METRIC_COST = "agentmesh.client.cost"
METRIC_REFUSED = "agentmesh.drafts.refused"

_AGENT_KEY, _SESSION_KEY, _RUN_KEY = "agentmesh_agent", "agentmesh_session", "agentmesh_run"
_CALL_KEYS = {"agentmesh_purpose": PURPOSE, "agentmesh_tier": TIER}
_DRAFTS = "act"
"""The node that judges an answer after its span would have ended."""


@dataclass
class _Open:
    """A run that goes on: the span that its children belong to, and its own, if it has one."""

    span: Span | None
    run: str
    own: bool = False
    began: float = 0.0
    first: bool = False
    model: str = ""
    attributes: dict[str, Any] | None = None
    drafts: list[_Draft] | None = None


class _Draft(NamedTuple):
    """An answer that is still to be judged: its span, when it ended, and what measures it."""

    span: Span
    ended_ns: int
    attributes: dict[str, Any]


class Telemetry:
    """Records agents' turns, model calls and tools; give the same one to all agents of a mesh.

    >>> agent = Agent("desk", "You answer.", tiers=[...], telemetry=Telemetry())

    Args:
        tracer_provider: where spans go; the application's own if None.
        meter_provider: where metrics go; the application's own if None.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise missing_extra("otel", "telemetry") from error
        self.trace = trace
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self.tokens = meter.create_histogram(METRIC_TOKENS, "{token}", "Tokens of a call, by type")
        self.durations = {
            operation: meter.create_histogram(name, "s", f"Duration of {operation}")
            for operation, name in METRIC_DURATIONS.items()
        }
        self.first = meter.create_histogram(METRIC_FIRST, "s", "Time to the first chunk")
        self.cache = meter.create_counter(METRIC_CACHE, "{token}", "Input tokens read or written")
        self.cost = meter.create_counter(METRIC_COST, "USD", "Cost of model calls, where known")
        self.refused = meter.create_counter(METRIC_REFUSED, "{draft}", "Drafts that failed a check")
        self._books: list[PriceBook] = []
        self._handler = _Handler(self)

    def know(self, prices: PriceBook) -> None:
        """Price calls by this book too."""
        self._books.append(prices)

    def priced(self, model: str, usage: Usage) -> int | None:
        """Return what a call costs in micro-dollars, None where no book knows."""
        costs = (book.cost(model, usage) for book in self._books)
        return next((cost for cost in costs if cost is not None), None)

    def config(self, *, agent: str, session: str, run: str) -> RunnableConfig:
        """Return what makes a run of a graph be recorded."""
        metadata = {_AGENT_KEY: agent, _SESSION_KEY: session, _RUN_KEY: run}
        return {"callbacks": [self._handler], "metadata": metadata}


class _Handler(BaseCallbackHandler):
    """Opens and closes spans as runs begin and end; parents are found by the runs' ids.

    An exception in here is logged by langchain and never fails a run.
    """

    run_inline = True

    def __init__(self, telemetry: Telemetry) -> None:
        self._to = telemetry
        self._open: dict[UUID, _Open] = {}

    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        about = metadata or {}
        run = str(about.get(_RUN_KEY, ""))
        above = self._open.get(parent_run_id) if parent_run_id else None
        if above is not None and above.run == run:
            drafts: list[_Draft] | None = [] if more.get("name") == _DRAFTS else None
            self._open[run_id] = _Open(above.span, run, drafts=drafts)
            return
        agent = str(about.get(_AGENT_KEY, ""))
        attributes = {OPERATION: "invoke_agent", AGENT: agent, CONVERSATION: about[_SESSION_KEY]}
        self._begin(run_id, above, f"invoke_agent {agent}", attributes, run)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        failures = outputs.get("failures") if isinstance(outputs, dict) else None
        self._end(run_id, check=failures[-1]["check"] if failures else "")

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        name = str((serialized or {}).get("name") or more.get("name") or "")
        attributes = {OPERATION: "execute_tool", TOOL: name}
        if more.get("tool_call_id"):
            attributes[TOOL_CALL] = str(more["tool_call_id"])
        above = self._open.get(parent_run_id) if parent_run_id else None
        self._begin(run_id, above, f"execute_tool {name}", attributes)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        about = metadata or {}
        provider = str(about.get("ls_provider") or "")
        name = str(about.get("ls_model_name") or "")
        known = {key: str(about[name]) for name, key in _CALL_KEYS.items() if name in about}
        attributes = {OPERATION: "chat", PROVIDER: provider, REQUEST_MODEL: name, **known}
        above = self._open.get(parent_run_id) if parent_run_id else None
        opened = self._begin(run_id, above, f"chat {name}", attributes, client=True)
        opened.model = f"{provider}:{name}"
        opened.drafts = above.drafts if above is not None else None
        opened.attributes = {**(opened.attributes or {}), **known}
        if opened.span is not None and _SESSION_KEY in about:
            opened.span.set_attribute(CONVERSATION, about[_SESSION_KEY])
            opened.span.set_attribute(AGENT, about[_AGENT_KEY])

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:
        opened = self._open.get(run_id)
        if opened is not None and not opened.first:
            opened.first = True
            self._to.first.record(time.perf_counter() - opened.began, opened.attributes)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        opened = self._open.get(run_id)
        message = getattr(response.generations[0][0], "message", None)
        with self._ending(run_id):
            if opened is not None and isinstance(message, AIMessage):
                self._answered(opened, message)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, error)

    def _begin(
        self,
        run_id: UUID,
        above: _Open | None,
        name: str,
        attributes: dict[str, Any],
        run: str = "",
        *,
        client: bool = False,
    ) -> _Open:
        trace = self._to.trace
        parent = above.span if above is not None else None
        span = self._to.tracer.start_span(
            name,
            context=None if parent is None else trace.set_span_in_context(parent),
            kind=trace.SpanKind.CLIENT if client else trace.SpanKind.INTERNAL,
            attributes=attributes,
        )
        measured = {key: attributes[key] for key in _MEASURED if key in attributes}
        inherited = run or (above.run if above is not None else "")
        opened = _Open(span, inherited, own=True, began=time.perf_counter(), attributes=measured)
        self._open[run_id] = opened
        return opened

    @contextmanager
    def _ending(self, run_id: UUID) -> Iterator[None]:
        try:
            yield
        finally:
            self._end(run_id)

    def _end(self, run_id: UUID, error: BaseException | None = None, check: str = "") -> None:
        opened = self._open.pop(run_id, None)
        if opened is None or opened.span is None:
            return
        if not opened.own:
            self._judge(opened.drafts or [], check)
            return
        attributes = dict(opened.attributes or {})
        if error is not None:
            kind = error.kind if isinstance(error, TierError) else type(error).__name__
            attributes[ERROR_TYPE] = kind
            opened.span.set_attribute(ERROR_TYPE, kind)
            opened.span.set_status(self._to.trace.StatusCode.ERROR)
        duration = self._to.durations[attributes[OPERATION]]
        duration.record(time.perf_counter() - opened.began, attributes)
        if opened.drafts is None or error is not None:
            opened.span.end()
        else:
            opened.drafts.append(_Draft(opened.span, time.time_ns(), attributes))

    def _judge(self, drafts: list[_Draft], check: str) -> None:
        """End the spans of answers that have been judged, as of when they were given."""
        for draft in drafts:
            draft.span.set_attribute(OUTCOME, "refused" if check else "accepted")
            if check:
                draft.span.set_attribute(CHECK, check)
                self._to.refused.add(1, {**draft.attributes, CHECK: check})
            draft.span.end(draft.ended_ns)

    def _answered(self, opened: _Open, message: AIMessage) -> None:
        span, metadata = opened.span, message.response_metadata
        if span is None:
            return
        for key, value in ((RESPONSE_MODEL, "model_name"), (RESPONSE_ID, "id")):
            if metadata.get(value):
                span.set_attribute(key, str(metadata[value]))
        span.set_attribute(FINISH_REASONS, [stop_of(message)])
        if message.usage_metadata is None:
            return
        usage = usage_of(message)
        written = usage.write + usage.write_long
        span.set_attribute(INPUT_TOKENS, usage.input)
        span.set_attribute(OUTPUT_TOKENS, usage.output)
        span.set_attribute(READ_TOKENS, usage.read)
        span.set_attribute(WRITE_TOKENS, written)
        span.set_attribute(REASONING_TOKENS, usage.reasoning)
        about = opened.attributes or {}
        self._to.tokens.record(usage.input, {**about, TOKEN_TYPE: "input"})
        self._to.tokens.record(usage.output, {**about, TOKEN_TYPE: "output"})
        self._to.cache.add(usage.read, {**about, CACHE_KIND: "read"})
        self._to.cache.add(written, {**about, CACHE_KIND: "write"})
        cost = self._to.priced(opened.model, usage)
        if cost is not None:
            span.set_attribute(COST, cost / 1e6)
            span.set_attribute(CURRENCY, "USD")
            span.set_attribute(COST_SOURCE, "local")
            self._to.cost.add(cost / 1e6, about)


_MEASURED = (OPERATION, PROVIDER, REQUEST_MODEL, AGENT, TOOL)
"""The attributes of few values, which metrics are split by."""
