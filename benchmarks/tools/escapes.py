"""Attempts to get out of the workspace, the sandbox and the fetch guard, counted by their tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tools.figure import Figure

PART = "escapes"
ROOT = Path(__file__).parents[2]
TESTS = {
    "workspace": ("tests/tools/test_workspace_escapes.py", ""),
    "sandbox": ("tests/tools/test_sandbox_escapes.py", "no_attempt or survives or every_limit"),
    "fetch guard": ("tests/tools/test_fetch_guard.py", "leads_inside"),
}
TRIED = 60
"""Distinct attempts at least: of workspace and sandbox together, and of the fetch guard."""


def escapes() -> dict[str, dict[str, int]]:
    """Return how many escapes were tried and how many were stopped, by running their tests."""
    found = {}
    for name, (path, chosen) in TESTS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            line = [sys.executable, "-m", "pytest", "-q", path, f"--junitxml={report}"]
            line += ["-p", "no:cacheprovider", *(["-k", chosen] if chosen else [])]
            environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, check=False)
            suite = xml.parse(report).getroot().find("testsuite")
            assert suite is not None
            counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors")}
            skipped = int(suite.get("skipped", 0))
        tried = counts["tests"] - skipped
        stopped = tried - counts["failures"] - counts["errors"]
        found[name] = {"tried": tried, "stopped": stopped, "skipped": skipped}
    return found


def figures(found: dict[str, dict[str, int]]) -> Iterator[Figure]:
    """Return how many were tried and how many got through."""
    hands = found["workspace"], found["sandbox"]
    tried = sum(counts["tried"] for counts in hands)
    yield Figure(PART, "escapes tried, workspace and sandbox", tried, TRIED, at_most=False)
    for name, counts in found.items():
        note = f"of {counts['tried']}"
        note += f", {counts['skipped']} cannot be tried here" if counts["skipped"] else ""
        yield Figure(
            PART, f"got through: {name}", counts["tried"] - counts["stopped"], 0, note=note
        )
    guard = found["fetch guard"]["tried"]
    yield Figure(PART, "URLs tried against the fetch guard", guard, TRIED, at_most=False)
