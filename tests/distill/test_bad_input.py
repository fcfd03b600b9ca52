"""What goes wrong is told in one line, leaves nothing half-written, and the live student serves on."""

import json
import os
import subprocess
import sys

import pytest

from agentmesh.cli import main
from agentmesh.distill import LocalStudent, Register, StudentModel, read_traces
from agentmesh.distill.feedback import give
from agentmesh.memory import Memory

HOURS = ("when do you open", "opening hours please", "are you open on sunday", "do you close early")

LIMITED = """
import resource, sys
from agentmesh.distill import (
    LocalStudent, check_terms, distil, export, read_traces, select, to_examples
)
from agentmesh.errors import AgentmeshError
from agentmesh.memory import Memory

url, out, command, limit, value = sys.argv[1:]
memory = Memory(url)

def limited(doing="", done=0, total=0):
    if doing in ("", "training"):
        more = int(value)
        if limit == "RLIMIT_AS":
            with open("/proc/self/statm") as pages:
                more += int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(getattr(resource, limit), (more, more))

try:
    if command == "train":
        LocalStudent.fit(list(read_traces(memory))[:30])  # what is loaded at first use is there
        distil(memory, out, name="desk", threshold=None, stage=limited)
    else:
        limited()
        examples = to_examples(select(lambda: read_traces(memory)))
        export(out + ".jsonl", examples, terms=check_terms(["rules:desk"], "hosted"))
except AgentmeshError as error:
    print(error, error.hint, sep=" | ")
"""


@pytest.fixture
def school(desk, tmp_path):
    """A memory to learn from, in which a student is live; its URL."""
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    memory = Memory(url)
    for i in range(60):
        asked, answers = HOURS[i % 4], [desk.text("We open at 9.")]
        if i % 2:
            noise = " ".join(f"w{i}x{k}" for k in range(400))  # what it takes memory to read
            asked = f"where is order #W{i} and why is it late {noise}"
            called = desk.call(json.dumps({"order": f"#W{i}"}), id=f"c{i}")
            answers = [called, desk.text("It left.")]
        desk.ask(memory, f"s{i}", asked, answers, user=f"u{i}")
    live = tmp_path / "live.skops"
    LocalStudent.fit(list(read_traces(memory)), agreement=0.9).save(live)
    register = Register(memory)
    register.add("desk", live, measured={"success": 0.95, "baseline": 0.9})
    for _ in range(3):
        register.promote("desk")
    memory.close()
    assert serves(url)
    return url


def serves(url):
    memory = Memory(url)
    states = [version.state for version in Register(memory).versions("desk")]
    answer = StudentModel.live(memory, "desk").invoke("when do you open").content
    memory.close()
    return states.count("live") == 1 and answer == "We open at 9."


@pytest.fixture
def distill(capsys):
    def run(*arguments, status):
        with pytest.raises(SystemExit) as caught:
            main(["distill", *map(str, arguments)])
        told = capsys.readouterr().err
        assert caught.value.code == status, told
        assert told.count("\n") == 1
        return told

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process, as Linux has them")
@pytest.mark.parametrize(
    ("command", "limit", "value", "said"),
    [
        ("train", "RLIMIT_AS", 1 << 20, "ran out of memory"),
        ("train", "RLIMIT_FSIZE", 1 << 10, "File too large"),
        ("export", "RLIMIT_FSIZE", 1 << 10, "the disk is full"),
    ],
)
def test_memory_or_disk_comes_to_its_end(school, tmp_path, command, limit, value, said):
    out = tmp_path / "out"
    made = [sys.executable, "-c", LIMITED, school, str(out), command, limit, str(value)]
    one = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(made, capture_output=True, text=True, env=one, check=False)
    assert said in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert list(out.glob("*")) == list(tmp_path.glob("out.*")) == []
    assert serves(school)


def test_calls_of_which_none_is_good(school, tmp_path, distill):
    train = ("train", tmp_path / "out", "--db", school, "--name", "desk")
    assert "no positive trace" in distill(*train, "--needs-feedback", status=2)
    memory = Memory(school)
    for i in range(60):
        give(memory, session=f"s{i}", turn=1, score=0.0)
    memory.close()
    told = distill(*train, status=2)
    assert "no positive trace" in told
    assert "feedback 0 is below 0.5" in told
    file = tmp_path / "train.jsonl"
    wrote = ("export", file, "--db", school, "--permission", "contract 17")
    assert "no positive trace" in distill(*wrote, status=2)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob("train*")) == []
    assert serves(school)


def test_one_answer_to_everything_is_no_lesson(desk, school, tmp_path, distill):
    memory = Memory(school, tenant="hours")
    for i in range(40):
        desk.ask(memory, f"s{i}", HOURS[i % 4], [desk.text("We open at 9.")], user=f"u{i}")
    memory.close()
    train = ("train", tmp_path / "out", "--db", school, "--tenant", "hours", "--no-near")
    assert "one class only" in distill(*train, status=2)
    assert not (tmp_path / "out").exists()
    assert serves(school)


def test_a_student_whose_file_was_changed_goes_nowhere(school, tmp_path, distill):
    memory = Memory(school)
    file = tmp_path / "next.skops"
    LocalStudent.fit(list(read_traces(memory)), agreement=0.9).save(file)
    Register(memory).add("desk", file, measured={"success": 0.95, "baseline": 0.9})
    memory.close()
    whole = file.read_bytes()
    for changed in (whole + b"x", whole[:-9], b""):
        file.write_bytes(changed)
        told = distill("promote", "desk", "--db", school, "--version", "2", status=1)
        assert "changed since it was registered" in told
        assert serves(school)
    file.unlink()
    told = distill("promote", "desk", "--db", school, "--version", "2", status=2)
    assert "there is no student at" in told
    assert serves(school)
