"""The recorded conversations through LangChain's own agent, next to ours, billed alike."""

from __future__ import annotations

import importlib.util
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh import canonical
from agentmesh.economy.billing import Block, prefixes
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.errors import InputError
from agentmesh.providers.anthropic import OPENING
from agentmesh.replay import Conversation, read, read_tools, replay
from agentmesh.testing import Bill, Recordings, emulator
from benchmarks.economy.plans import Judge
from benchmarks.economy.recorded import interleaved, load

MODEL = "anthropic:claude-opus-5-5"
SIDE_BY_SIDE = 4
QUICK = 2
"""How many conversations of each file the quick comparison takes."""

MAX_TOKENS = 4096
MAX_STEPS = 1000
PACKAGES = ("langchain", "langchain_anthropic")

NOTE = (
    f"An opening greeting follows the user message {OPENING!r} for both, as the API wants the"
    " user to speak first; where a recording ends with a tool's result, a before_model hook ends"
    " the peer's run there; call ids are the emulator's own for both, so ids that a recording"
    " uses twice do not matter. Our agent's instructions have one paragraph more, on what its"
    " memory's tags mean. The first conversations start at once, so either agent may write the"
    " shared prefix more than once. Both limits are those of our planner's prompts: over_limit by"
    " the recorded clock, on which prefixes that conversations share grow cold between them;"
    " over_warm_limit as if none did, as in this run, which is faster than that clock."
)


class Limit:
    """The input bill if every prefix, once sent, could be read for as long as it lives."""

    def __init__(self) -> None:
        self.micro = 0.0
        self._price = _price()
        self._ttl_s = semantics(MODEL).ttl_s
        self._last_used: dict[bytes, float] = {}

    def add(self, blocks: Sequence[Block], at: float) -> None:
        """Count a request."""
        for block, point in zip(blocks, prefixes(blocks), strict=True):
            warm = at - self._last_used.get(point.key, float("-inf")) < self._ttl_s
            price = self._price.read if warm else self._price.write
            self.micro += block.tokens * float(price or 0)
            self._last_used[point.key] = at


class Limits(NamedTuple):
    """The limit by the recorded clock, and as if nothing ever grew cold; micro-dollars."""

    clocked: float
    warm: float


class Driven(NamedTuple):
    """What the peer was billed, and what strayed from its recording."""

    bills: list[Bill]
    strayed: dict[str, str]


def missing() -> list[str]:
    """Return the packages of the peer that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def compare(files: Sequence[Path], tools: Path, *, quick: bool = False) -> dict[str, Any]:
    """Return what the conversations cost LangChain's agent and ours, over limit and uncached.

    Both make the same calls; a conversation that strays in the peer is left out for both, and
    named.
    """
    named = _named(files, QUICK if quick else None)
    schemas = read_tools(tools)
    theirs = drive(named, schemas)
    strayed = theirs.strayed
    if strayed:
        named = {name: one for name, one in named.items() if name not in strayed}
        theirs = drive(named, schemas)
        if theirs.strayed:
            raise InputError(
                f"conversations strayed on a second run only: {theirs.strayed!r}",
                hint="are there recordings that begin alike?",
            )
    ours = replay(list(named.values()), schemas, model=MODEL, interleaved=SIDE_BY_SIDE)
    if len(theirs.bills) != ours.steps:
        raise InputError(
            f"the peer made {len(theirs.bills)} calls, our agent {ours.steps}",
            hint="is a recording cut short?",
        )
    limits = _limits(files, tools, named)
    used = sum((bill.usage for bill in theirs.bills), Usage())
    return {
        "model": MODEL,
        "conversations": len(named),
        "interleaved": SIDE_BY_SIDE,
        "limit_usd": round(limits.clocked / 1e6, 4),
        "warm_limit_usd": round(limits.warm / 1e6, 4),
        "agents": [
            _row("agentmesh Agent", ours.steps, ours.usage, limits),
            _row("langchain create_agent", len(theirs.bills), used, limits),
        ],
        "ours_over_peer": round(_cost(ours.usage) / _cost(used), 4),
        "not_driven": strayed,
        "note": NOTE,
    }


def _named(files: Iterable[Path], upto: int | None) -> dict[str, Conversation]:
    """Return the conversations, at most `upto` of each file, by their file's name and id."""
    named: dict[str, Conversation] = {}
    for file in files:
        for one in read(file)[:upto]:
            if _name(file, one.id) in named:
                raise InputError(f"{str(file)!r} has {one.id!r} twice", hint="give each an id")
            named[_name(file, one.id)] = one
    return named


def _name(file: Path, id_: str) -> str:
    return f"{file.stem}: {id_}"


def _limits(files: Iterable[Path], tools: Path, kept: Container[str]) -> Limits:
    """Return the limits of the prompts that our planner makes of the same conversations."""
    found = [(file, one) for file in files for one in load(file, tools)]
    conversations = [one for file, one in found if _name(file, one.name) in kept]
    judge, clocked, warm = Judge((MODEL,)), Limit(), Limit()
    for asked in interleaved(conversations, semantics(MODEL), SIDE_BY_SIDE):
        blocks = judge.read(MODEL, asked.prompt).blocks
        clocked.add(blocks, asked.at)
        warm.add(blocks, 0.0)
    return Limits(clocked.micro, warm.micro)


def _row(agent: str, calls: int, usage: Usage, limits: Limits) -> dict[str, Any]:
    cost = _cost(usage)
    return {
        "agent": agent,
        "calls": calls,
        "input_tokens": usage.input,
        "read_share": round(usage.read / usage.input, 4),
        "input_usd": round(cost / 1e6, 4),
        "over_limit": round(cost / limits.clocked, 4),
        "over_warm_limit": round(cost / limits.warm, 4),
        "over_uncached": round(cost / _price().cost(Usage(fresh=usage.input)), 4),
    }


def _price() -> Price:
    price = PriceBook().price(MODEL)
    if price is None:
        raise ValueError(f"{MODEL!r} has no price")
    return price.complete(MODEL)


def _cost(usage: Usage) -> int:
    return _price().cost(Usage(usage.fresh, usage.read, usage.write, usage.write_long))


def drive(named: Mapping[str, Conversation], schemas: Sequence[dict[str, Any]]) -> Driven:
    """Run the conversations through LangChain's agent, some side by side, over HTTP."""
    from anthropic import AnthropicError
    from langchain_anthropic import ChatAnthropic

    brain = Recordings([one.spoken for one in named.values()])
    strayed = {}
    with emulator(brain) as server, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        build: Any = ChatAnthropic  # its signature names fields, not the aliases that users pass
        model = build(
            model_name=MODEL.removeprefix("anthropic:"),
            base_url=server.url,
            api_key="peer",
            max_tokens=MAX_TOKENS,
            max_retries=0,
        )
        work = {name: pool.submit(_run, model, one, schemas) for name, one in named.items()}
        for name, future in work.items():
            try:
                future.result()
            except (AnthropicError, InputError) as error:
                strayed[name] = str(error)
        return Driven(list(server.bills), strayed)


def _run(model: Any, conversation: Conversation, schemas: Sequence[dict[str, Any]]) -> None:
    from langchain.agents import create_agent
    from langchain.agents.middleware import before_model
    from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
    from langgraph.checkpoint.memory import InMemorySaver

    results = _Results(conversation)

    @before_model(can_jump_to=["end"])
    def stop(_state: Any, _runtime: Any) -> dict[str, Any] | None:
        return None if results.left else {"jump_to": "end"}

    unfinished = conversation.spoken[-1]["role"] == "tool"
    agent: Any = create_agent(
        model,
        [results.tool(schema) for schema in schemas],
        system_prompt=conversation.system or None,
        middleware=[AnthropicPromptCachingMiddleware(), *([stop] if unfinished else [])],
        checkpointer=InMemorySaver(),
    )
    # one tool at a time: equal calls in one step get their results in the recorded order
    config = {
        "configurable": {"thread_id": conversation.id},
        "recursion_limit": MAX_STEPS,
        "max_concurrency": 1,
    }
    said: list[dict[str, str]] = []
    if conversation.opening:
        said.append({"role": "user", "content": OPENING})
        said.append({"role": "assistant", "content": conversation.opening})
    for text in conversation.requests:
        agent.invoke({"messages": [*said, {"role": "user", "content": text}]}, config)
        said = []
    if results.left:
        raise InputError(
            f"{conversation.id}: {results.left} recorded tool calls were not made",
            hint="is the recording whole?",
        )


class _Results:
    """The results that were recorded for a conversation's tool calls."""

    def __init__(self, conversation: Conversation) -> None:
        self.left = len(conversation.calls)
        self._left: dict[tuple[str, str], deque[str]] = defaultdict(deque)
        for name, arguments, result in conversation.calls:
            self._left[name, arguments].append(result)

    def tool(self, schema: dict[str, Any]) -> Any:
        """Return a LangChain tool that answers as recorded."""
        from langchain_core.tools import StructuredTool

        function = schema.get("function", schema)
        name = function["name"]

        def run(**arguments: Any) -> str:
            results = self._left.get((name, canonical.dumps(arguments)))
            if not results:
                raise InputError(f"{name}({arguments}) was not recorded", hint="is it whole?")
            self.left -= 1
            return results.popleft()

        return StructuredTool(
            name=name,
            description=function.get("description") or name,
            args_schema=function.get("parameters") or {"type": "object", "properties": {}},
            func=run,
        )
