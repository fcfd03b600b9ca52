from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentmesh.cli import main
from agentmesh.memory import Memory
from agentmesh.memory.conformance import say


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "memory.db"
    memory = Memory(f"sqlite:///{path}")
    for session in ("s1", "s2"):
        say(memory, "where is [my] order?", session=session, reply="on its way")
    memory.profile("u1").set("language", "German", source="user", author="u1")
    memory.close()
    return str(path)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["memory", *arguments])
    return int(caught.value.code or 0)


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert _run(*arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_show(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "show", path, "--json") == [
        {"session": "s1", "entries": 3},
        {"session": "s2", "entries": 3},
    ]
    log = _json(capsys, "show", path, "s1", "--json")
    assert [entry["kind"] for entry in log] == ["user", "assistant"]
    assert _run("show", path, "s1") == 0
    assert "where is [my] order?" in capsys.readouterr().out
    assert _run("show", path) == 0
    assert "2 sessions" in capsys.readouterr().out


def test_items(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = _json(capsys, "items", path, "--profile", "u1", "--json")
    assert (item["key"], item["value"], item["author"]) == ("language", "German", "u1")
    assert _run("items", path, "--profile", "u1") == 0
    assert "language" in capsys.readouterr().out
    assert _run("items", path) == 2


def test_pending(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory(f"sqlite:///{path}")
    for key in ("kind", "city"):
        memory.profile("u1").set(key, f"a [{key}]", source="tool", author="crm")
    memory.close()
    waiting = _json(capsys, "pending", path, "--profile", "u1", "--json")
    assert [(row["key"], row["author"], row["pending"]) for row in waiting] == [
        ("city", "crm", True),
        ("kind", "crm", True),
    ]
    assert _run("pending", path, "--profile", "u1", "--accept", "city") == 0
    assert "kind: " in capsys.readouterr().out
    assert _json(capsys, "pending", path, "--profile", "u1", "--reject", "kind", "--json") == []
    held = _json(capsys, "items", path, "--profile", "u1", "--json")
    assert [row["key"] for row in held] == ["city", "language"]
    assert _json(capsys, "pending", path, "--session", "s1", "--json") == []
    for wrong in (
        ["--profile", "u1", "--accept", "nothing"],
        ["--session", "s1", "--accept", "nothing"],
        ["--session", "s1", "--accept", "7"],
        ["--profile", "u1", "--accept", "a", "--reject", "a"],
        [],
    ):
        assert _run("pending", path, *wrong) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_verify(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    checked = _json(capsys, "verify", path, "--json")
    assert checked == {"sessions": 2, "entries": 6, "calls": 2}
    memory = Memory(f"sqlite:///{path}")
    memory.database.write(lambda c: c.execute(text("UPDATE entries SET body='x' WHERE seq=1")))
    memory.close()
    assert _run("verify", path) == 1
    assert "does not match its hash" in capsys.readouterr().err


def test_export(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = _json(capsys, "export", path, "u1")
    assert len(known["sessions"]) == 2
    assert _run("export", path, "u1", "--out", str(tmp_path / "u1.json")) == 0
    written = json.loads((tmp_path / "u1.json").read_text())
    assert written | {"exported_at": 0} == known | {"exported_at": 0}
    assert _run("export", path, "u1", "--out", "/nowhere/x.json") == 2


def test_erase(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = _json(capsys, "erase", path, "--session", "s1", "--yes", "--json")
    assert receipt["scrubbed"]
    assert receipt["counts"]["entries"] == 3
    assert _run("erase", path, "--older", "10", "--yes") == 0
    assert "nothing was there" in capsys.readouterr().out
    assert _run("erase", path, "--yes") == 2
    assert _json(capsys, "erase", path, "--tenant-too", "--yes", "--json")["kind"] == "tenant"
    assert _json(capsys, "show", path, "--json") == []


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    database = str(tmp_path / "new.db")
    assert _run("import", database, str(chats)) == 2
    assert not Path(database).exists()
    assert _json(capsys, "import", database, str(chats), "--user", "u1", "--json") == ["chats-1"]


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in (["show"], ["verify"], ["export"], ["erase", "--yes", "--user"]):
        missing = str(tmp_path / "missing.db")
        assert _run(command[0], missing, *command[1:], "u1") == 2
        assert not Path(missing).exists()
