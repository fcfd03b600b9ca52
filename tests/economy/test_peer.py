"""LangChain's agent and ours on two small recordings; skipped where LangChain is not installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("langchain", "langchain_anthropic")),
    reason="needs langchain and langchain-anthropic",
)

POLICY = " ".join(f"Rule {n}: look a booking up before you speak of it." for n in range(200))

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a booking up.",
            "parameters": {
                "type": "object",
                "properties": {"booking": {"type": "string"}},
                "required": ["booking"],
            },
        },
    }
]


def said(role, text):
    return {"role": role, "content": text}


def looked_up(*calls):
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": id_,
                "type": "function",
                "function": {"name": "look_up", "arguments": json.dumps({"booking": booking})},
            }
            for id_, booking in calls
        ],
    }


def found(id_, text):
    return {"role": "tool", "tool_call_id": id_, "content": text}


GREETED = [
    said("system", POLICY),
    said("assistant", "Hello! How can I help?"),
    said("user", "What became of my bookings?"),
    looked_up(("a", "one"), ("b", "two")),
    found("a", "paid"),
    found("b", ""),
    said("assistant", "One is paid, two is gone."),
    said("user", "Look again."),
    looked_up(("a", "one")),
    found("a", "cancelled"),
    said("assistant", "It is cancelled now."),
    said("user", "Thanks"),
]

UNFINISHED = [
    said("system", POLICY),
    said("user", "I want a person."),
    looked_up(("a", "three")),
    found("a", "a person takes over"),
]

STRAYING = [
    said("system", POLICY),
    said("user", "Nobody answers the second call."),
    looked_up(("a", "four")),
    said("user", "Well?"),
    said("assistant", "I do not know."),
]


def test_both_agents_make_the_recorded_calls_and_are_billed_alike(tmp_path):
    """What strays from its recording is left out for both; --quick leaves out the third."""
    place = tmp_path / "conversations"
    place.mkdir()
    (place / "airline_tools.json").write_text(json.dumps(TOOLS))
    files = {
        "long": {"greeted": GREETED, "straying": STRAYING, "third": GREETED},
        "short": {"unfinished": UNFINISHED},
    }
    for name, conversations in files.items():
        rows = [json.dumps({"id": id_, "messages": made}) for id_, made in conversations.items()]
        (place / f"airline_{name}.jsonl").write_text("\n".join(rows))
    command = [sys.executable, "-m", "benchmarks.economy", "peer", "--quick", "--json", "--data"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = json.loads(done.stdout)["peer"]
    ours, peer = shown["agents"]
    assert list(shown["not_driven"]) == ["airline_long: straying"]
    assert shown["conversations"] == 2
    assert ours["calls"] == peer["calls"] == 5
    assert ours["over_warm_limit"] >= 1
    for agent in (ours, peer):
        assert agent["over_warm_limit"] > 0.95
        assert agent["over_uncached"] < 1
        assert agent["read_share"] > 0.4
