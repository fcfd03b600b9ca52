"""The code on the pages of `docs/` runs, from top to bottom, on what each page takes as given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"cost.md"}
"""Pages whose blocks are tests themselves, run by tests of their own."""

PAGES = sorted(
    page.name
    for page in (ROOT / "docs").glob("*.md")
    if "```python" in page.read_text("utf-8") and page.name not in ELSEWHERE
)

DESK = """
from agentmesh import Agent, Tier
from agentmesh.testing import Answer, emulator


def brain(request):
    return Answer("Done.", [] if request.results else CALL)


server = emulator(brain).__enter__()
tiers = [Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)]
"""

GIVEN = {
    "memory.md": {
        0: f"CALL = []\n{DESK}\nagent = Agent('desk', 'Answer.', tiers=tiers)\n"
        "agent.invoke('Where is my order?', user='u1', session='s1')\n"
    },
    "tools.md": {
        1: f"CALL = [('refund', {{'order': 'W1', 'cents': 9_000}})]\n{DESK}\n"
        "agent = Agent('desk', 'Answer.', tiers=tiers, tools=[refund])\n",
        2: "from sqlalchemy.orm import DeclarativeBase, mapped_column\n"
        "from sqlalchemy import String\n"
        "class Base(DeclarativeBase): pass\n"
        "class Booking(Base):\n"
        "    __tablename__ = 'bookings'\n"
        "    key = mapped_column(String, primary_key=True)\n"
        "    seat = mapped_column(String)\n",
    },
    "async.md": {1: "import pytest\n"},
}
"""What a page takes as given before its n-th block."""

NOTES = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("notes", log_level="ERROR")


@server.tool()
def search(words: str) -> str:
    return words


@server.tool()
def write(text: str) -> str:
    return text


server.run()
"""


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    given = GIVEN.get(page, {})
    script = "\n".join(f"{given.get(number, '')}\n{code}" for number, code in enumerate(blocks))
    (tmp_path / "page.py").write_text(script, "utf-8")
    (tmp_path / "notes.py").write_text(NOTES, "utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
