from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agentmesh.cli.cost import app

RUN = CliRunner()


def run(*arguments):
    return RUN.invoke(app, [str(a) for a in arguments])


def test_prints_tables_the_waste_and_the_last_misses(busy):
    stage = busy()
    done = run(stage.path, "--by", "user", "--by", "day")
    assert done.exit_code == 0, done.output
    for text in ("By user", "By day", "u2", "tool change", "before", "now", "uncached"):
        assert text in done.output
    assert "+ 1 unknown" in done.output


def test_json_is_the_whole_report(busy):
    done = run(busy().path, "--json", "--misses", "99")
    report = json.loads(done.output)
    assert report["total"]["calls"] == 10
    assert report["explained_share"] == 1.0
    assert {row["cause"] for row in report["misses"]} >= {"ttl", "memory fold"}


def test_takes_a_session_or_a_user(busy):
    stage = busy()
    one = json.loads(run(stage.path, "--json", "--session", "s1").output)
    assert set(one["by"]["session"]) == {"s1"}
    two = json.loads(run(stage.url, "--json", "--user", "u2").output)
    assert set(two["by"]["user"]) == {"u2"}


def test_writes_a_page(busy, tmp_path):
    page = tmp_path / "report.html"
    assert run(busy().path, "--html", page).exit_code == 0
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_an_empty_ledger_says_so(stage):
    assert "no calls" in run(stage.path).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.db"], "there is no database 'nowhere.db'"),
        (["{db}", "--by", "colour"], "--by 'colour' is no key"),
        (["{db}", "--prices", "{bad}"], "is not JSON"),
        (["{db}", "--prices", "{dir}/none.json"], "cannot be read"),
        (["{db}", "--flagship", "openai-compatible:nobody"], "is unknown"),
        (["{db}", "--html", "{dir}/none/report.html"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_clear_error(busy, tmp_path, arguments, message):
    bad = tmp_path / "prices.json"
    bad.write_text("{")
    filled = [a.format(db=busy().path, bad=bad, dir=tmp_path) for a in arguments]
    done = run(*filled)
    assert message in str(done.exception)
    assert done.exception.hint


def test_names_are_text_and_no_markup(stage):
    stage.say("[/b] s1", user="[red]u1")
    done = run(stage.path, "--by", "user", "--by", "session", "--misses", "3")
    assert done.exit_code == 0, done.output
    assert "[red]u1" in done.output
    assert "[/b] s1" in done.output
