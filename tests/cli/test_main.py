"""The command line as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentmesh.cli import COMMANDS, main

SCHEMAS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
TALK = {
    "id": "t",
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Good day."},
    ],
}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command in shown


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom agentmesh.cli import COMMANDS, main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('langgraph', 'sklearn', 'sqlalchemy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_wrong_use_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nosuch"], ["replay"], ["replay", "x.jsonl", "--tools"]):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("agentmesh: ")
        assert len(error.splitlines()) == 1


def test_an_error_is_one_line_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(SCHEMAS))
    (tmp_path / "bad.jsonl").write_text("nonsense")
    tools = ["--tools", str(tmp_path / "tools.json")]
    assert run("replay", str(tmp_path / "bad.jsonl"), *tools) == 2
    error = capsys.readouterr().err
    assert "bad.jsonl:1 is not JSON" in error
    assert len(error.splitlines()) == 1
    (tmp_path / "good.jsonl").write_text(json.dumps(TALK))
    good = str(tmp_path / "good.jsonl")
    assert run("replay", good, *tools, "--model", "gpt-9") == 2
    assert "names no model" in capsys.readouterr().err


def test_replay_says_the_same_to_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(SCHEMAS))
    (tmp_path / "good.jsonl").write_text(json.dumps(TALK))
    arguments = ["replay", str(tmp_path / "good.jsonl"), "--tools", str(tmp_path / "tools.json")]
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert run(*arguments, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["all"]["steps"] == 1
    assert f"{said['all']['usage']['fresh']:,}" in shown


def test_runs_an_example_or_a_folder_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.py").write_text("def main(arguments):\n    print(arguments)\n    return 3\n")
    assert run("run", str(tmp_path), "--task", "x") == 3
    assert capsys.readouterr().out.strip() == "['--task', 'x']"
    assert run("run", "coding_agent", "--help") == 0
    assert "--repo" in capsys.readouterr().out
    (tmp_path / "main.py").write_text("x = 1\n")
    assert run("run", str(tmp_path)) == 2
    assert "has no main()" in capsys.readouterr().err
    assert run("run", "no_such_example") == 2
    assert "there is no program 'no_such_example'" in capsys.readouterr().err


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip().count(".") == 2
