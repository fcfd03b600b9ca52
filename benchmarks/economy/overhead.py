"""What planning and rendering add to a call, at a long history."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

from agentmesh.economy.warmth import Warmth, outline
from agentmesh.memory import Core, Memory
from agentmesh.prompt import ToolSpec
from agentmesh.providers import connect, forget, to_messages, to_tools

MODEL = "anthropic:claude-opus-5-5"
TOKENS = 36_000
"""Where the measured calls begin; they end a little above 40,000."""


def overhead(calls: int = 24) -> dict[str, Any]:
    """Return medians, in milliseconds of CPU, of each stage of a call at 40,000 tokens of log.

    `sum_ms` is what a call costs whose log is known but for its newest entries, `anew_ms` what it
    would cost if nothing were kept from call to call. CPU time, because the machine may be busy
    with other work.
    """
    memory = Memory("sqlite://")
    tools = tuple(ToolSpec(f"tool_{n:02}", "Look something up. " * 20, "{}") for n in range(12))
    blocks = [{"type": "text", "text": "Where is my order?"}]
    turn = memory.open_turn(session="s", user="u", agent="a", blocks=blocks)
    turn.recall(Core(tools, "You are the desk of a shop. " * 300))
    step = 0
    while sum(entry.tokens for entry in turn.view.shown) < TOKENS:
        step += 1
        _grow(turn, step)
    turn.flush()
    chat: Any = connect(MODEL, base_url="http://127.0.0.1:9")
    warmth = Warmth()
    kept, anew = [], []
    _call(turn, chat, warmth, step)
    for _ in range(calls):
        step += 1
        _grow(turn, step)
        kept.append(_call(turn, chat, warmth, step))
    for _ in range(calls):
        forget()
        anew.append(_call(turn, chat, warmth, step))
    tokens = sum(entry.tokens for entry in turn.view.shown)
    entries = len(turn.view.shown)
    memory.close()
    medians = {name: _median(stages[name] for stages in kept) for name in kept[0]}
    sums = {
        "sum_ms": _median(sum(stages.values()) for stages in kept),
        "anew_ms": _median(sum(stages.values()) for stages in anew),
    }
    return {"tokens": tokens, "entries": entries, **medians, **sums, "target_ms": 2.0}


def _call(turn: Any, chat: Any, warmth: Warmth, step: int) -> dict[str, float]:
    """Prepare one call; return the milliseconds of its stages."""
    began = time.process_time()
    prompt = turn.prompt(MODEL, tail="It is Tuesday.")
    turn.sha(prompt)
    rendered = time.process_time()
    seen = outline(prompt, "s")
    warmth.predict(MODEL, seen, float(step))
    guessed = time.process_time()
    chat.body(to_messages(prompt, MODEL), tools=to_tools(prompt))
    done = time.process_time()
    warmth.note(MODEL, seen, float(step))
    turn.view.anchors[MODEL] = prompt.entries[-1].seq
    return {
        "plan_and_render_ms": (rendered - began) * 1_000,
        "predict_ms": (guessed - rendered) * 1_000,
        "messages_and_body_ms": (done - guessed) * 1_000,
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def _grow(turn: Any, step: int) -> None:
    call = {"type": "call", "id": f"c{step}", "name": "tool_01", "arguments": '{"order":1}'}
    turn.add("assistant", [{"type": "text", "text": "I look it up. " * 8}, call], step)
    text = "The order was sent on Monday and is on its way. " * 30
    result = {"type": "result", "id": f"c{step}", "name": "tool_01", "text": text, "error": False}
    turn.add("tool", [result], step)
