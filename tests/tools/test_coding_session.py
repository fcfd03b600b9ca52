"""The recorded coding session as the benchmark plays it: every step, every result, one ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.errors import InputError
from agentmesh.memory.compaction import Compaction
from benchmarks.tools import coding


def recorded(name: str, steps: int) -> dict[str, Any]:
    """Return a row of a recording: two commands a step, each with its own result."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You solve issues."},
        {"role": "user", "content": f"Please mend {name}."},
    ]
    for step in range(steps):
        ids = [f"{name}-{step}-{call}" for call in "ab"]
        calls = [
            {
                "id": i,
                "function": {"name": "bash", "arguments": json.dumps({"command": f"cat {i}"})},
            }
            for i in ids
        ]
        messages.append({"role": "assistant", "content": f"Step {step}", "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": i, "content": f"{i} says\n" + "x = 1\n" * 300}
            for i in ids
        ]
    return {"benchmark": "swebench", "instance_id": name, "messages": messages}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [recorded("one", 4), recorded("two", 5), {**recorded("three", 9), "benchmark": "other"}]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "agent_steps.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("steps", [3, 11, 25])
def test_the_session_has_as_many_model_calls_as_asked_for(folder: Path, steps: int) -> None:
    given = coding.tasks(folder, steps)
    assert sum(len(task.steps) + 1 for task in given) == steps
    assert {task.text for task in given} <= {"Please mend one.", "Please mend two."}


def test_every_recorded_step_is_played_and_billed(folder: Path) -> None:
    given = coding.tasks(folder, 11)
    run = coding.ours("ours", given, None)
    assert run.calls == 11
    assert 0 < run.read < 1
    assert run.input_micro > 0


def test_compacting_costs_digests_and_saves_more(folder: Path) -> None:
    given = coding.tasks(folder, 90)
    small = Compaction(keep_turns=1, keep_tokens=500, digest_tokens=100)
    rolling, whole = coding.ours("ours", given, small), coding.ours("whole", given, None)
    assert rolling.calls > whole.calls == 90
    assert rolling.tokens < whole.tokens


def test_a_folder_without_steps_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent_steps.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no swebench steps"):
        coding.tasks(tmp_path, 10)
