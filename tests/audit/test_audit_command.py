from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentmesh.audit.audit import Audit
from agentmesh.cli.audit import app

RUN = CliRunner()
RECORDED = Path(__file__).parents[3] / "shared/data/conversations"


def run(*arguments):
    return RUN.invoke(app, [str(a) for a in arguments])


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = []
    for turn in range(4):
        messages = [{"role": "system", "content": "Rules. " * 400}]
        messages += [{"role": "user", "content": f"Question {n}"} for n in range(turn + 1)]
        answer = {"choices": [{"message": {"content": "Soon."}}]}
        rows.append({"model": "claude-opus-5-5", "messages": messages, "response": answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prints_the_bill_the_workload_and_the_assumptions(log):
    done = run(log)
    assert done.exit_code == 0, done.output
    for words in ("4 calls", "cached well", "all together", "complexity: simple", "Assumptions"):
        assert words in done.output


def test_what_a_log_says_is_text_and_no_markup(log):
    log.write_text(log.read_text().replace("Rules. ", "[/b] [red] \\u001b[2J"))
    done = run(log)
    assert done.exit_code == 0, done.output
    assert "[/b] [red] [2J" in done.output
    assert "\x1b" not in done.output


def test_json_and_page(log, tmp_path):
    page = tmp_path / "audit.html"
    report = json.loads(run(log, "--json", "--html", page).output)
    assert report["calls"] == 4
    assert report["designs"]["cached well"]["cost"] < report["designs"]["as logged"]["cost"]
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_takes_several_files_prices_and_schemas(log, tmp_path):
    prices, tools = tmp_path / "prices.json", tmp_path / "tools.json"
    prices.write_text('{"anthropic:claude-opus-5-5": {"input": 0, "output": 0}}')
    tools.write_text('[{"name": "find"}]')
    report = json.loads(run(log, log, "--json", "--prices", prices, "--tools", tools).output)
    assert report["calls"] == 8
    assert report["designs"]["as logged"]["cost"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{dir}/none.jsonl"], "cannot be read"),
        (["{bad}"], "holds no record that is known"),
        (["{log}", "--prices", "{bad}"], "is not JSON"),
        (["{log}", "--prices", "{negative}"], "price 'input' is -1"),
        (["{log}", "--tools", "{bad}"], "cannot be read"),
        (["{log}", "--tools", "{negative}"], "holds no list"),
        (["{log}", "--unpriced-as", "openai-compatible:x"], "is unknown"),
        (["{log}", "--standard", "openai-compatible:x"], "is unknown"),
        (["{log}", "--student-success", "7"], "student_success=7.0 is no share"),
        (["{log}", "--html", "{dir}/none/x.html"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_clear_error(log, tmp_path, arguments, message):
    bad, negative = tmp_path / "bad.txt", tmp_path / "negative.json"
    bad.write_text("no json")
    negative.write_text('{"openai:gpt-5": {"input": -1, "output": 1}}')
    names = {"dir": tmp_path, "bad": bad, "negative": negative, "log": log}
    done = run(*(a.format(**names) for a in arguments))
    assert message in str(done.exception)
    assert done.exception.hint


def test_a_file_of_no_logs_among_logs_is_named_and_the_others_are_read(log, tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "find"}}]')
    report = json.loads(run(log, tools, "--json").output)
    assert report["calls"] == 4
    assert report["flaws"]["a tool schema, not a log"]["example"] == "tools.json#1"
    alone = run(tools)
    assert "holds no record that is known" in str(alone.exception)
    assert "--tools" in alone.exception.hint


def test_says_that_a_log_leaves_tool_schemas_out(log):
    assert "--tools" not in run(log).output
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        row["response"]["usage"] = {"prompt_tokens": 9_000, "completion_tokens": 3}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "times the tokens that the logs show" in " ".join(run(log).output.split())


@pytest.mark.skipif(not RECORDED.is_dir(), reason="needs the recorded conversations")
@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_reads_every_recorded_conversation(path):
    taker = Audit()
    taker.read(path)
    report = taker.report()
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    answered = [
        row
        for row in rows
        if any(
            message["role"] == "assistant" and any(m["role"] == "user" for m in row["messages"][:n])
            for n, message in enumerate(row["messages"])
        )
    ]
    assert report.conversations == len(answered)
    assert not set(report.flaws) - {"a conversation without an answer"}
    costs = [message.get("cost_usd") or 0 for row in rows for message in row["messages"]]
    assert sum(model.cost_usd for model in report.models.values()) == pytest.approx(sum(costs))
