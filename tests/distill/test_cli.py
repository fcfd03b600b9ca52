import json
import os
import random
import subprocess
import sys
from contextlib import suppress

import pytest

from agentmesh.distill import LocalStudent, Register, StudentModel, distil, read_examples
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory

ASKS = ("where is my order {}", "track {} please", "has {} been shipped", "any news about {}")
HOURS = ("when do you open", "opening hours please", "are you open on sunday", "do you close early")


def fill(desk, memory, n=60):
    rng = random.Random(1)
    for i in range(n):
        order = f"#W{rng.randrange(10**6, 10**7)}"
        if i % 2:
            said = rng.choice(ASKS).format(order)
            answers = [
                desk.call(json.dumps({"order": order}), id=f"c{i}"),
                desk.text("It is shipped."),
            ]
        else:
            said, answers = rng.choice(HOURS), [desk.text("We open at 9.")]
        desk.ask(memory, f"s{i}", said, answers, user=f"u{i}")


@pytest.fixture
def db(desk, tmp_path):
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    memory = Memory(url)
    fill(desk, memory)
    memory.close()
    return url


def test_the_whole_loop_runs_from_the_command_line(db, tmp_path, distill):
    told = json.loads(
        distill("run", tmp_path / "out", "--db", db, "--name", "desk", "--no-near", "--json").out
    )
    assert told["version"]["state"] == "shadow"
    assert told["held"]["agreement"] >= 0.95
    assert told["held"]["answered"] > 0.8
    assert told["reasons"] == {"nothing was wrong with it": 90}
    for state in ("canary", "live"):
        distill("promote", "desk", "--db", db, "--by", "ana", "--why", "measured")
        assert state in distill("status", "--db", db).out
    memory = Memory(db)
    model = StudentModel.live(memory, "desk")
    assert model.invoke("when do you open").content == "We open at 9."
    memory.close()
    (row,) = json.loads(distill("rollback", "desk", "--db", db, "--why", "slips", "--json").out)
    assert row["state"] == "retired"
    assert row["facts"]["events"][-1]["why"] == "slips"
    assert row["facts"]["trained"]["terms"] == {"anthropic:claude-opus-5-5": "no-competitor"}
    assert "nothing to undo" in distill("rollback", "desk", "--db", db, status=2).err


def test_a_student_that_dares_nothing_is_measured_and_not_promoted(db, tmp_path, distill):
    given = ("run", tmp_path, "--db", db, "--name", "desk", "--no-near", "--agreement", "0.999")
    told = distill(*given, status=1).out
    assert "desk version 1 is candidate" in told
    assert "Not promoted: answers 0 of 16 held-out calls, 10% are the least." in told
    told = json.loads(distill(*given, "--json", status=1).out)
    assert (told["version"]["version"], told["version"]["state"]) == (2, "candidate")
    assert told["refused"].startswith("answers 0 of")
    refused = distill("promote", "desk", "--db", db, status=2).err
    assert "'desk' version 2 is not promoted: answers 0 of 16" in refused


def test_selection_and_export_from_the_command_line(db, tmp_path, distill):
    (row,) = json.loads(distill("select", "--db", db, "--json").out)
    assert row == {"kept": True, "reason": "nothing was wrong with it", "calls": 90}
    assert "nothing was wrong" in distill("select", "--db", db).out
    out = tmp_path / "train.jsonl"
    refused = distill("export", out, "--db", db, status=2)
    assert "the terms of 'anthropic'" in refused.err
    assert not out.exists()
    distill("export", out, "--db", db, "--permission", "contract 17", "--redact-key", "0123456789")
    assert len(list(read_examples(out))) == 60
    manifest = json.loads((tmp_path / "train.jsonl.manifest.json").read_text())
    assert (manifest["terms"]["permission"], manifest["redacted"]) == ("contract 17", True)
    assert manifest["reasons"] == {"nothing was wrong with it": 90}


@pytest.mark.skipif(sys.platform == "win32", reason="it has no terminals of this kind")
def test_progress_is_shown_on_a_terminal_and_not_in_a_file(db, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    export = ("export", tmp_path / "a.jsonl", "--db", db, "--permission", "contract 17")
    command = [sys.executable, "-m", "agentmesh", "distill", *map(str, export)]
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=terminal, check=True)
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # a terminal that nobody writes to any more has no end
        while part := os.read(ours, 65_536):
            seen += part
    os.close(ours)
    assert b"reading calls" in seen
    assert b"/90" in seen
    assert b"90 answers in 60 rows written" in done.stdout
    assert b"reading" not in done.stdout


def test_wrong_use_gets_one_line_and_a_hint(tmp_path, distill):
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    told = distill("status", "--db", missing, status=2)
    assert "there is no database" in told.err
    assert not (tmp_path / "none.db").exists()
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    Memory(empty).close()
    assert "no positive trace" in distill("train", tmp_path, "--db", empty, status=2).err
    assert "no student 'desk'" in distill("promote", "desk", "--db", empty, status=2).err


def test_conversations_are_compared_from_the_command_line(tmp_path, distill):
    for name, solved in (("old", 10), ("new", 36)):
        rows = [
            {
                "id": f"{i}",
                "task": f"{i}",
                "reward": float(i < solved),
                "messages": [{"role": "user"}],
            }
            for i in range(40)
        ]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    old, new = tmp_path / "old", tmp_path / "new"
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    told = json.loads(distill("eval", old, new, "--json", "--html", page, "--markdown", text).out)
    assert told["promoted"]
    assert "<svg" in page.read_text()
    assert "is promoted" in text.read_text()
    assert "not promoted" in distill("eval", new, old, status=1).out


def test_a_failed_loop_leaves_the_live_student_alone(desk, tmp_path):
    memory = Memory("sqlite://")
    fill(desk, memory, 40)
    register = Register(memory)
    first = distil(memory, tmp_path, name="desk", threshold=None).version
    for _ in range(3):
        register.promote("desk", first.version)
    with pytest.raises(ConfigError, match=r"conversations|one group|held out"):
        distil(memory, tmp_path, name="desk", threshold=0.05)
    with pytest.raises(ConfigError, match="agreement=3"):
        distil(memory, tmp_path, name="desk", threshold=None, agreement=3)
    assert [v.state for v in register.versions("desk")] == ["live"]
    assert LocalStudent.load(register.verified("desk").path).facts["rows"] > 0
