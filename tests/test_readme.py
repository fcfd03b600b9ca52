"""The README does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from agentmesh import Agent, Tier

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


TALK = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Good day."},
    ]
}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {name for name, _ in BLOCKS} == {"python", "sh", "mermaid", "text"}


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run_and_print_what_stands_behind_them(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [
        line.split("  # ")[1] for line in code.splitlines() if "print(" in line and "  # " in line
    ]
    assert done.stdout.splitlines()[: len(shown)] == shown


def test_the_first_agent_fits_in_twelve_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 12


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_make_knows_each_target(command: str) -> None:
    done = subprocess.run(
        ["make", "-n", *command.split()[1:]], capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith("make ")])
def test_commands_do_what_they_say(command: str, tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text(json.dumps(TALK))
    (tmp_path / "tools.json").write_text("[]")
    words = command.split()
    assert words[0] == "agentmesh"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every recorded tool call was made" in " ".join(done.stdout.split())


def test_the_picture_is_the_graphs_own() -> None:
    agent = Agent("a", "Answer.", tiers=[Tier("only", FakeListChatModel(responses=["Fine."]))])
    (shown,) = blocks("mermaid")
    assert shown.strip() == agent.graph.get_graph().draw_mermaid().strip()


def test_the_map_names_every_folder() -> None:
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith(".") and any(path.glob("**/*.py"))
    }
    folders -= {"build", "dist"}
    for folder in folders:
        assert f"`{folder}/`" in README, folder
