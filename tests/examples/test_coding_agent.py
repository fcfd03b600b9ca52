from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentmesh.emulator import Answer, Request
from agentmesh.errors import ConfigError, InputError
from agentmesh.examples.coding_agent.brains import STUDENT
from agentmesh.examples.coding_agent.main import main
from agentmesh.examples.coding_agent.progress import outcome as outcome_of
from agentmesh.examples.coding_agent.progress import told
from agentmesh.examples.coding_agent.repair import candidates
from agentmesh.examples.coding_agent.solve import (
    SAMPLE_TESTS,
    Outcome,
    guess,
    sample,
    solve,
    stand_ins,
    undo,
)
from agentmesh.examples.coding_agent.transcript import Done, Transcript, failures
from agentmesh.tools.git import Git
from agentmesh.tools.programs import find


def _state(repo: Path) -> tuple[str, str, str]:
    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=repo, check=True, capture_output=True, text=True
        ).stdout

    return git("status", "--porcelain"), git("rev-parse", "HEAD"), git("worktree", "list")


def _steps(outcome: Outcome) -> dict[str, int]:
    return {item.tier: item.steps for item in outcome.bill}


@dataclass
class Repaired:
    """The shipped repository, repaired but not accepted, and what was shown on the way."""

    repo: Path
    outcome: Outcome
    shown: list[str]
    before: tuple[str, str, str]
    after: tuple[str, str, str]


@pytest.fixture(scope="module")
def repaired() -> Iterator[Repaired]:
    with sample() as repo:
        before, shown = _state(repo), list[str]()
        outcome = solve(repo, tests=SAMPLE_TESTS, show=shown.append, approve=lambda request: True)
        yield Repaired(repo, outcome, shown, before, _state(repo))


def test_the_broken_repository_is_repaired(repaired: Repaired) -> None:
    outcome = repaired.outcome
    assert outcome.solved
    assert outcome.tests.startswith("OK")
    assert "+    start = (number - 1) * size" in outcome.patch
    assert "+    if total >= FREE_SHIPPING_FROM:" in outcome.patch
    assert "b/tests/" not in outcome.patch
    assert outcome.plan
    assert outcome.usd is not None
    assert outcome.usd > 0


def test_the_student_looks_and_the_flagship_edits(repaired: Repaired) -> None:
    assert _steps(repaired.outcome)["student"] > 3
    assert _steps(repaired.outcome)["flagship"] > 3
    edits = [line for line in repaired.shown if line[10:].startswith(("edit  ", "commit"))]
    assert edits
    assert all(line.startswith("flagship") for line in edits)
    assert any(line.startswith("student   search ") for line in repaired.shown)


def test_a_person_can_follow_what_happens(repaired: Repaired) -> None:
    shown = "\n".join(repaired.shown)
    assert shown.startswith(f"task    {repaired.outcome.task}\n")
    assert f"student   run     {SAMPLE_TESTS}\n" in shown
    assert "exit status 1: FAILED (failures=3)\n" in shown
    assert "flagship  edit    shop/pages.py\n" in shown
    assert " - start = (number + 1) * size\n" in shown
    assert " + start = (number - 1) * size\n" in shown
    assert "<untrusted" not in shown
    assert all(len(line) < 130 for line in repaired.shown[1:])


def test_the_bill_is_the_ledgers(repaired: Repaired) -> None:
    outcome = repaired.outcome
    assert [item.tier for item in outcome.bill] == ["student", "flagship"]
    assert outcome.usd == sum(item.usd or 0.0 for item in outcome.bill)
    assert 0 < sum(item.cached for item in outcome.bill) < sum(i.tokens_in for i in outcome.bill)


def test_the_repository_is_untouched_until_the_patch_is_accepted(repaired: Repaired) -> None:
    assert repaired.before == repaired.after
    assert not repaired.outcome.accepted


def test_an_accepted_patch_is_applied_and_can_be_taken_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with sample() as repo:
        before = _state(repo)
        outcome = solve(repo, tests=SAMPLE_TESTS, accept=True, approve=lambda request: True)
        assert outcome.accepted
        changed, head, trees = _state(repo)
        assert sorted(changed.split()) == ["M", "M", "shop/pages.py", "shop/prices.py"]
        assert (head, trees) == before[1:]
        with pytest.raises(SystemExit) as ended:
            main(["--repo", str(repo), "--undo"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == "taken back: shop/pages.py, shop/prices.py\n"
        assert _state(repo) == before
        with pytest.raises(InputError, match="no patch"):
            undo(repo)


def _repository(folder: Path, code: str, test: str) -> Path:
    folder.mkdir()
    (folder / "it.py").write_text(code)
    (folder / "test_code.py").write_text(
        "import unittest\n\nfrom it import f\n\n\n"
        "class T(unittest.TestCase):\n    def test_f(self):\n"
        f"        {test}\n"
    )
    Git.create(folder)
    return folder


def test_a_task_that_is_too_hard_changes_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = _repository(
        tmp_path / "hard", "def f(x):\n    return x == 1\n", "self.assertEqual(f(1), 'one')"
    )
    before = _state(repo)
    with pytest.raises(SystemExit) as ended:
        main(["--repo", str(repo), "--accept", "--unconfined", "--json"])
    assert ended.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["solved"]
    assert not told["accepted"]
    assert told["patch"] == ""
    assert "could not repair" in told["answer"]
    assert _state(repo) == before


def test_nothing_is_done_where_all_tests_pass(tmp_path: Path) -> None:
    repo = _repository(tmp_path / "fine", "def f(x):\n    return x\n", "self.assertEqual(f(1), 1)")
    outcome = solve(repo, approve=lambda request: True)
    assert (outcome.solved, outcome.patch) == (True, "")
    assert "nothing to repair" in outcome.answer


def test_a_student_that_edits_is_refused_and_the_step_escalates(tmp_path: Path) -> None:
    repo = _repository(tmp_path / "off", "def f(x):\n    return x < 2\n", "self.assertTrue(f(2))")

    def rash(request: Request) -> Answer:
        """Edit first, and look later."""
        return Answer(calls=[("delete_file", {"path": "test_code.py"})])

    with stand_ins({STUDENT: rash}) as tiers:
        shown: list[str] = []
        outcome = solve(repo, tiers=tiers, show=shown.append, approve=lambda request: True)
    assert outcome.solved
    assert outcome.refused >= 1
    assert _steps(outcome)["student"] == 0
    assert any("refused" in line and "may not use 'delete_file'" in line for line in shown)
    assert (repo / "test_code.py").exists()
    assert "b/test_code.py" not in outcome.patch


@pytest.mark.parametrize("approved", [True, False])
def test_without_bubblewrap_a_person_is_asked_before_each_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, approved: bool
) -> None:
    installed = find
    monkeypatch.setattr(
        "agentmesh.tools.sandbox.find", lambda name: None if name == "bwrap" else installed(name)
    )
    repo = _repository(tmp_path / "off", "def f(x):\n    return x < 2\n", "self.assertTrue(f(2))")
    asked: list[str] = []

    def approve(request: dict[str, Any]) -> bool:
        asked.extend(action["args"]["command"] for action in request["action_requests"])
        return approved

    outcome = solve(repo, approve=approve)
    assert outcome.confinement == "restricted"
    assert set(asked) == {"python3 -m unittest discover"}
    assert outcome.solved == approved
    if not approved:
        assert outcome.patch == ""
        assert "not run" in outcome.tests
        assert "could not run the tests" in outcome.answer


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--repo", "{none}"], "is no git repository"),
        (["--repo", "{plain}"], "is no git repository"),
        (["--repo", "{empty}"], "has no commit yet"),
        (["--repo", "{fine}", "--task", "  "], "the task is empty"),
        (["--student", "anthropic:x"], "--student needs --flagship"),
        (["--flagship", "no model"], "names no model"),
        (["--undo"], "--undo needs --repo"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    for name in ("plain", "empty"):
        (tmp_path / name).mkdir()
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    fine = _repository(tmp_path / "fine", "f = 1\n", "pass")
    places = {name: str(tmp_path / name) for name in ("none", "plain", "empty")}
    with pytest.raises(SystemExit) as ended:
        main([argument.format(fine=fine, **places) for argument in arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert "(" in error


def test_a_run_that_is_ended_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    repo = _repository(tmp_path / "slow", "def f(x):\n    return x\n", "self.assertEqual(f(1), 2)")
    before = _state(repo)
    command = [sys.executable, "-u", "-m", "agentmesh.examples.coding_agent", "--repo", str(repo)]
    process = subprocess.Popen(
        [*command, "--unconfined", "--tests", "sleep 3; false"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert next(line for line in lines if line.startswith("student   list "))
    assert len(_state(repo)[2].splitlines()) == 2
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped" in error
    assert _state(repo) == before


def test_a_folder_within_a_repository_is_no_repository(tmp_path: Path) -> None:
    repo = _repository(tmp_path / "fine", "f = 1\n", "pass")
    (repo / "inner").mkdir()
    with pytest.raises(ConfigError):
        solve(repo / "inner")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Ran 3 tests in 0.1s\n\nOK\n[exit status 0]", 0),
        ("FAILED (failures=2, errors=1)\n[exit status 1]", 3),
        ("2 failed, 10 passed in 0.3s\n[exit status 1]", 2),
        ("1 failed, 2 errors in 0.3s\n[exit status 1]", 3),
        ("ImportError\n[exit status 1]", 1_000_000),
        ("OK\n[ended: it ran for more than 60 s]", 1_000_000),
    ],
)
def test_failures_are_counted(text: str, count: int) -> None:
    assert failures(text) == count


def test_edits_are_tried_in_code_alone_and_likeliest_first() -> None:
    read = (
        "     1\tLIMIT = 3\n     2\t\n     3\tdef f(x):\n"
        '     4\t    """Return >= this."""\n     5\t    return x > 1  # not < 2'
    )
    transcript = Transcript(
        (
            Done("read_file", {"path": "a.py"}, read),
            Done("search_files", {}, "a.py:3: def f(x):"),
        ),
        "",
        True,
    )
    tried = [(edit.line, edit.new.strip()) for edit in candidates(transcript)]
    assert tried[0] == (5, "return x >= 1  # not < 2")
    assert {line for line, _ in tried} == {1, 5}
    assert (1, "LIMIT = 4") in tried
    assert not [new for _, new in tried if "not <= 2" in new]


@pytest.mark.parametrize(
    ("name", "args", "line"),
    [
        ("read_file", {"path": "a.py", "start": 7, "end": 90}, "read    a.py, lines 7 to 90"),
        ("read_file", {"path": "a.py", "start": 7}, "read    a.py from line 7 on"),
        ("read_file", {"path": "a.py"}, "read    a.py"),
        ("search_files", {"pattern": "def f"}, "search  def f in all files"),
        ("edit_file", {"file": "a.py"}, "edit_file(file='a.py')"),
        ("other", {"x": 1}, "other(x=1)"),
    ],
)
def test_a_call_is_told_in_words(name: str, args: dict[str, Any], line: str) -> None:
    assert told(name, args) == line


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("run_command", "..\nOK\n[exit status 0]", "exit status 0: OK"),
        ("run_command", "[ended: it ran for more than 60 s]", "ended: it ran for more than 60 s"),
        ("search_files", "a.py:1: x\na.py:2: x", "2 lines found"),
        ("edit_file", "Error: no such file\nmore", "failed: no such file"),
        ("read_file", "    1\tx", ""),
    ],
)
def test_what_came_of_a_call_is_told(name: str, text: str, line: str) -> None:
    assert outcome_of(name, text) == line


def test_the_command_that_runs_the_tests_is_guessed(tmp_path: Path) -> None:
    assert guess(tmp_path) == "python3 -m unittest discover"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    assert guess(tmp_path) == "python3 -m unittest discover -t . -s tests"
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    assert "pytest" in guess(tmp_path)
