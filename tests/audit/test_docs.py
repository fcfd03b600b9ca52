"""`docs/cost.md` does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from agentmesh.economy.misses import Cause

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_cause_is_explained_and_no_other():
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == set(get_args(Cause))


def test_the_example_of_a_cache_test_passes(tmp_path):
    suite = tmp_path / "test_example.py"
    suite.write_text(BLOCKS[0])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "agentmesh.testing.plugin", str(suite)],
        check=False,
        cwd=tmp_path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("code", BLOCKS[1:])
def test_the_other_blocks_run(code):
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", re.findall(r"^agentmesh .*$", PAGE, re.MULTILINE))
def test_the_commands_have_the_options_that_are_shown(line):
    command = line.split()[1]
    done = subprocess.run(
        [sys.executable, "-m", "agentmesh", command, "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    for option in re.findall(r"--[a-z-]+", line):
        assert option in done.stdout
