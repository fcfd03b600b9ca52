"""A session whose tools change in its middle: appended, next to a list that is written anew.

    python -m benchmarks.tools changing [--json]

A desk with a long policy answers sixteen messages; at the ninth it gains a tool and loses another.
Both ways run through the same memory and are billed by the emulator; they differ in that message
alone: one appends the change where the vendor has a way to, the other begins the prompt anew with
the other list, as a client does that sends the tools it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentmesh.canonical import dumps
from agentmesh.economy.usage import Usage
from agentmesh.memory import Call, Core, Memory
from agentmesh.memory.render import marks_text
from agentmesh.prompt import ToolSpec
from agentmesh.providers import connect, to_messages, to_tools
from agentmesh.testing import Answer, Request, emulator
from benchmarks.tools.figure import Figure

MODELS = ("anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai:gpt-5.1")
TURNS, CHANGE = 16, 9
POLICY = "A customer may send an item back within thirty days, unworn and with its label. " * 120
ANSWER = "It can go back: it is within thirty days, and the label is to be in the parcel. " * 12
PAUSE_S = 20.0


def _tool(number: int) -> ToolSpec:
    name = "abcdefghijklm"[number]
    what = f"Look up step {name} of a return: its state, its dates, and who has the parcel. "
    schema = {"type": "object", "properties": {"order": {"type": "string", "description": what}}}
    return ToolSpec(f"step_{name}", what * 3, dumps(schema))


BEFORE = tuple(_tool(number) for number in range(12))
AFTER = tuple(_tool(number) for number in range(1, 13))


def measure() -> list[dict[str, Any]]:
    """Return both ways' bills for each model: tokens by kind, and micro-dollars."""
    return [
        {"model": model, "appended": _session(model, False), "anew": _session(model, True)}
        for model in MODELS
    ]


def _session(model: str, anew: bool) -> dict[str, Any]:
    now = [1_000.0]
    offered: list[int] = []

    def brain(request: Request) -> Answer:
        offered.append(len(request.tools))
        return Answer(ANSWER)

    with emulator(brain, clock=lambda: now[0]) as server:
        url = server.url if model.startswith("anthropic:") else server.openai_url
        chat = connect(model, base_url=url, api_key="key")
        memory = Memory(clock=lambda: now[0])
        for number in range(1, TURNS + 1):
            core = Core(BEFORE if number < CHANGE else AFTER, POLICY)
            _turn(memory, chat, model, number, core, anew=anew and number == CHANGE)
            now[0] += PAUSE_S
        memory.verify()
        memory.close()
        usages = [bill.usage for bill in server.bills]
        cost = [bill.cost_micro or 0 for bill in server.bills]
    changed = usages[CHANGE - 1]
    return {
        "read_at_change": changed.read,
        "unread_at_change": changed.input - changed.read,
        "change_micro": cost[CHANGE - 1],
        "session_micro": sum(cost),
        "offered": (offered[CHANGE - 2], offered[CHANGE - 1]),
    }


def _turn(memory: Memory, chat: Any, model: str, number: int, core: Core, *, anew: bool) -> None:
    said = [{"type": "text", "text": f"Question {number}: can the blue coat go back as well?"}]
    turn = memory.open_turn(session="s1", user="u1", agent="desk", blocks=said)
    if anew:
        turn.begin_epoch(core, "request")
    turn.recall(core)
    turn.refresh()
    prompt = turn.prompt(model)
    bound = chat.bind_tools(to_tools(prompt))
    answer = bound.invoke(to_messages(prompt, model))
    turn.record(
        Call(
            user="u1",
            agent="desk",
            epoch=turn.epoch.number,
            turn=turn.number,
            step=0,
            tier="only",
            model=model,
            head=prompt.entries[-1].seq,
            usage=Usage(fresh=1),
            cost=None,
            outcome="ok",
            started_at=memory.clock(),
            latency_s=0.0,
            marks=marks_text(prompt.marks),
            prompt_sha=turn.sha(prompt),
        )
    )
    turn.add("assistant", [{"type": "text", "text": answer.text}], model=model)
    turn.finish()


def figures(found: list[dict[str, Any]]) -> Iterator[Figure]:
    """Return what the message costs that tells of the change, over one that sends another list."""
    for one in found:
        ratio = one["appended"]["change_micro"] / one["anew"]["change_micro"]
        name = f"tools changed in mid-session over a list anew: {one['model']}"
        yield Figure("changing", name, ratio)


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the figures as a table."""
    rows = [
        f"{'the message with the change':38}{'read':>8}{'unread':>8}{'$ then':>10}{'$ all':>10}"
    ]
    for one in found:
        for way, said in (("appended", "appended"), ("anew", "list anew")):
            bill = one[way]
            usd = f"{bill['change_micro'] / 1e6:10.5f}{bill['session_micro'] / 1e6:10.5f}"
            read = f"{bill['read_at_change']:8}{bill['unread_at_change']:8}"
            rows.append(f"{one['model']}, {said}".ljust(38) + read + usd)
    return rows
