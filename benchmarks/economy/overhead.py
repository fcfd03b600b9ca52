"""What planning and rendering add to a call, at a long history."""

from __future__ import annotations

import statistics
import time
from typing import Any

from agentmesh.economy.warmth import Warmth, outline
from agentmesh.memory import Core, Memory
from agentmesh.prompt import ToolSpec
from agentmesh.providers import connect, to_messages, to_tools

MODEL = "anthropic:claude-opus-5-5"
TOKENS = 36_000
"""Where the measured calls begin; they end a little above 40,000."""


def overhead(calls: int = 24) -> dict[str, Any]:
    """Return medians, in milliseconds of CPU, of each stage of a call at 40,000 tokens of log.

    CPU time, because the machine may be busy with other work.
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
    stages: dict[str, list[float]] = {"plan_and_render": [], "predict": [], "messages_and_body": []}
    for _ in range(calls):
        step += 1
        _grow(turn, step)
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
        for name, seconds in zip(
            stages, (rendered - began, guessed - rendered, done - guessed), strict=True
        ):
            stages[name].append(seconds * 1_000)
    tokens = sum(entry.tokens for entry in turn.view.shown)
    memory.close()
    medians = {f"{name}_ms": round(statistics.median(ms), 3) for name, ms in stages.items()}
    return {"tokens": tokens, "entries": len(prompt.entries), **medians}


def _grow(turn: Any, step: int) -> None:
    call = {"type": "call", "id": f"c{step}", "name": "tool_01", "arguments": '{"order":1}'}
    turn.add("assistant", [{"type": "text", "text": "I look it up. " * 8}, call], step)
    text = "The order was sent on Monday and is on its way. " * 30
    result = {"type": "result", "id": f"c{step}", "name": "tool_01", "text": text, "error": False}
    turn.add("tool", [result], step)
