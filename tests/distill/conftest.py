"""A memory with turns in it, written through the memory's own front door."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agentmesh.cli import main
from agentmesh.economy.usage import Usage
from agentmesh.memory import Call, Core, Memory
from agentmesh.memory.render import marks_text
from agentmesh.prompt import ToolSpec

TOOL = ToolSpec("order_status", "Look up an order.", '{"properties":{"order":{"type":"string"}}}')
CORE = Core((TOOL,), "You are the support desk.")


def text(words):
    return [{"type": "text", "text": words}]


def ask(memory, session, words, answers, *, user="u1", tier="flagship", kind="simple", tail=""):
    """Run a turn: each answer is blocks, or the name of a check that refused the draft."""
    turn = memory.open_turn(session=session, user=user, agent="support", blocks=text(words))
    turn.recall(CORE)
    step = 1
    for blocks in answers:
        refused = isinstance(blocks, str)
        prompt = turn.prompt("anthropic:claude-opus-5-5", tail=tail)
        turn.record(
            Call(
                user=user,
                agent="support",
                epoch=turn.epoch.number,
                turn=turn.number,
                step=step,
                tier="student" if refused else tier,
                model="student:s1" if refused else "anthropic:claude-opus-5-5",
                head=prompt.entries[-1].seq,
                tail=tail,
                marks=marks_text(prompt.marks),
                prompt_sha=turn.sha(prompt),
                usage=Usage(fresh=100, output=10),
                cost=1_000,
                outcome=f"check:{blocks}" if refused else "ok",
                started_at=0.0,
                latency_s=0.5,
                decision={"kind": kind},
            )
        )
        if refused:
            continue
        turn.add("assistant", blocks, step)
        for block in blocks:
            if block["type"] == "call":
                result = {"type": "result", "id": block["id"], "name": block["name"]}
                failed = "bad" in block["arguments"]
                turn.add("tool", [{**result, "text": "shipped", "error": failed}], step)
        step += 1
    turn.finish()
    return turn


def call(arguments='{"order": "#W1"}', name="order_status", id="c1"):
    return [{"type": "call", "id": id, "name": name, "arguments": arguments}]


def memory():
    return Memory("sqlite://", clock=lambda: 1_000.0)


@pytest.fixture
def desk():
    """What tests of the log write it with."""
    return SimpleNamespace(ask=ask, call=call, text=text, memory=memory)


@pytest.fixture
def distill(capsys):
    """Run `agentmesh distill` as the command line does; returns what it printed."""

    def run(*arguments, status=0):
        with pytest.raises(SystemExit) as caught:
            main(["distill", *map(str, arguments)])
        told = capsys.readouterr()
        assert caught.value.code in (status, None if status == 0 else status), told.err
        return told

    return run
