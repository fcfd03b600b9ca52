"""The routing page does what it says."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from agentmesh.cli.route import app

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
SHELL = re.findall(r"^agentmesh route (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", SHELL)
def test_every_command_is_one_that_there_is(line: str) -> None:
    name, *given = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group
    command.make_context(name, given)


def test_python_blocks_run() -> None:
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        names: dict[str, object] = {}
        exec(code, names)  # our own page
        assert names["checks"]
