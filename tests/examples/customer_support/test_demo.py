"""The demo on a part of its traffic, through the real agent and the real SDKs."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from agentmesh.errors import AgentmeshError, ConfigError, InputError
from agentmesh.examples.customer_support.demo import DESIGNS, decide, run
from agentmesh.examples.customer_support.parallel import run_in_processes
from agentmesh.examples.customer_support.report import Report

REQUESTS = 36


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def report(told: list[tuple[str, int, int]]) -> Report:
    return run(
        (DESIGNS[0], DESIGNS[2], DESIGNS[4]),
        requests=REQUESTS,
        progress=lambda *done: told.append(done),
    )


def test_every_design_gets_the_same_requests(
    report: Report, told: list[tuple[str, int, int]]
) -> None:
    assert [row.requests for row in report.rows] == [REQUESTS] * 3
    assert [done for _, done, _ in told] == list(range(1, 3 * REQUESTS + 1))
    assert {whole for _, _, whole in told} == {3 * REQUESTS}
    assert {name for name, _, _ in told} == {row.design for row in report.rows}


def test_caching_changes_the_bill_and_nothing_else(report: Report) -> None:
    plain, cached, _ = report.rows
    assert plain.usage.read == plain.usage.write == 0
    assert cached.usage.input == plain.usage.input
    assert (cached.steps, cached.solved) == (plain.steps, plain.solved)
    assert cached.usage.output == plain.usage.output
    assert cached.read_share > 0.7
    assert cached.cost_micro < plain.cost_micro / 3


def test_all_together_is_the_cheapest_and_uses_every_tier(report: Report) -> None:
    plain, cached, whole = report.rows
    assert whole.cost_micro < plain.cost_micro / 3
    assert set(whole.by_model) == {
        "anthropic:claude-haiku-4-5",
        "anthropic:claude-opus-5-5",
        "openai-compatible:desk-student",
    }
    assert whole.spam_blocked >= 1
    assert sum(whole.caught.values()) >= whole.escalations
    assert plain.blocked == cached.blocked == 0


def test_most_is_solved_and_what_is_not_is_named(report: Report) -> None:
    for row in report.rows:
        assert row.solved >= 0.9 * REQUESTS
        assert sum(row.unsolved.values()) == REQUESTS - row.solved


def test_a_second_run_gives_the_same_report(report: Report) -> None:
    again = run((DESIGNS[4],), requests=REQUESTS).to_json()["designs"][0]
    before = report.to_json()["designs"][2]
    assert {**again, "seconds": 0} == {**before, "seconds": 0}


def test_side_by_side_gives_the_same_rows(report: Report) -> None:
    told: list[str] = []
    beside = run(
        (DESIGNS[0], DESIGNS[2]),
        requests=REQUESTS,
        progress=lambda name, _done, _whole: told.append(name),
        workers=2,
    )
    assert [replace(row, seconds=0) for row in beside.rows] == [
        replace(row, seconds=0) for row in report.rows[:2]
    ]
    assert Counter(told) == {row.design: REQUESTS for row in beside.rows}


def test_a_design_that_fails_in_its_process_is_named() -> None:
    with pytest.raises(AgentmeshError, match=r"ended with status 1: .*cannot make 0 requests"):
        run_in_processes([0], requests=0, seed=7, workers=2, tell=lambda _: None)


def test_the_report_is_json_and_a_table_with_every_column(report: Report) -> None:
    value = json.loads(json.dumps(report.to_json()))
    assert set(value["designs"][0]) >= {
        "requests",
        "steps",
        "tokens",
        "read_share",
        "escalations",
        "blocked",
        "solved",
        "usd",
        "requests_per_usd",
    }
    assert set(value["designs"][0]["tokens"]) == {"fresh", "written", "read", "out"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table())
    shown = console.export_text()
    for words in (
        "requests",
        "read from cache",
        "escalated",
        "per dollar",
        "stand-ins",
        "assumed to cost",
    ):
        assert words in shown


def test_the_demos_person_approves_up_to_a_limit() -> None:
    def question(amount: float) -> dict[str, object]:
        return {"action_requests": [{"name": "refund", "args": {"amount": amount}}]}

    kinds = [one["type"] for one in decide([question(400), question(400.01)])["decisions"]]
    assert kinds == ["approve", "reject"]


def test_bad_arguments_are_clear_errors() -> None:
    with pytest.raises(ConfigError, match="no design"):
        run(())
    with pytest.raises(ConfigError, match="workers=0"):
        run(workers=0)
    with pytest.raises(InputError, match="cannot make -1 requests"):
        run(requests=-1)
