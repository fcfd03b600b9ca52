"""The README does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from agentmesh import Agent, Tier

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


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


@pytest.mark.parametrize("command", [c for b in blocks("sh") for c in b.splitlines() if c.strip()])
def test_commands_exist(command: str) -> None:
    words = command.split("#")[0].split()
    if words[0] == "make":
        make = shutil.which("make")
        assert make is not None
        done = subprocess.run([make, "-n", *words[1:]], capture_output=True, cwd=ROOT, check=False)
        assert done.returncode == 0
    else:
        assert words[:2] != ["agentmesh"], command
        done = subprocess.run(
            [sys.executable, "-m", *words[:2], "--help"],
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0


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
