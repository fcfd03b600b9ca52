"""`agentmesh emulator` as a person runs it."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from agentmesh.cli import main

TALK = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]


def spawn(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "agentmesh", "emulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def ask(line, words="Hello?"):
    url = line.split(" at ")[1].split(" ")[0]
    body = {"model": "claude-haiku-4-5", "max_tokens": 99}
    body["messages"] = [{"role": "user", "content": words}]
    answer = httpx.post(f"{url}/v1/messages", json=body, headers={"x-api-key": "k"})
    return answer.json()["content"][0]["text"]


@pytest.mark.parametrize(
    ("arguments", "says", "number"),
    [
        ((), "Hello?", signal.SIGINT),
        (("--echo",), "Hello?", signal.SIGTERM),
        (("--recording", "talk.jsonl"), "Good day.", signal.SIGINT),
        (("--brain", "mine:answer"), "mine", signal.SIGINT),
    ],
)
def test_serves_until_it_is_interrupted(tmp_path, arguments, says, number):
    (tmp_path / "talk.jsonl").write_text(json.dumps({"id": "t", "messages": TALK}) + "\n\n")
    (tmp_path / "mine.py").write_text(
        "from agentmesh.emulator import Answer\ndef answer(request):\n    return Answer('mine')\n"
    )
    with spawn(*arguments, cwd=tmp_path) as process:
        line = process.stdout.readline()
        assert line.startswith("Anthropic API at http://127.0.0.1:")
        assert "OpenAI APIs at" in line
        assert ask(line) == says
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert out.strip().startswith("1 requests, $0.00")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--recording", "none.jsonl"), "cannot be read"),
        (("--recording", "bad.jsonl"), "line 2: not JSON"),
        (("--recording", "odd.jsonl"), "line 1: no messages"),
        (("--recording", "empty.jsonl"), "no recordings"),
        (("--brain", "mine"), "names no function"),
        (("--brain", "not_a_module_here:answer"), "cannot be loaded"),
        (("--brain", "json:missing"), "cannot be loaded"),
        (("--brain", "json:__doc__"), "is not a function"),
        (("--prices", "none.json"), "cannot be read"),
        (("--echo", "--brain", "a:b"), "exclude each other"),
        (("--port", "99999"), "cannot listen on 127.0.0.1:99999"),
        (("--host", "no.such.host.invalid"), "cannot listen on no.such.host.invalid"),
        (("--latency-s", "-1"), "latency_s is -1.0"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(json.dumps(TALK) + "\n{\n")
    (tmp_path / "odd.jsonl").write_text("5\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SystemExit) as caught:
        main(["emulator", "--port", "0", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert "(" in error
