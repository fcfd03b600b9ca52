"""The ledger against the vendors' own bills, in small: `python -m benchmarks.ledger` is the whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentmesh import Agent, Price, Tier
from agentmesh.testing import Answer, Fault, emulator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "benchmarks" / "ledger" / "run.py"
    spec = importlib.util.spec_from_file_location("ledger_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ledger_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_the_ledger_equals_the_bills_and_marks_as_unknown_what_nobody_told(
    run: ModuleType, tmp_path: Path
) -> None:
    found = run.compare(300, seed=7, workers=6, database=tmp_path / "ledger.db")
    assert found.agrees, found
    assert found.ledger_micro == found.billed_micro > 0
    assert found.calls >= 300
    assert {"cut", "error", "status"} <= {*found.faults}
    assert found.unknown_bills > 0
    assert found.unknown_bills_micro > 0
    assert found.unknown_rows >= found.unknown_bills


@pytest.mark.parametrize(
    ("fault", "stream", "known"),
    [
        (Fault("status", status=401), False, True),
        (Fault("status", status=401), True, True),
        (Fault("untold"), False, False),
        (Fault("untold"), True, False),
        (Fault("cut"), False, False),
        (Fault("cut"), True, False),
        (Fault("error"), True, False),
        (Fault("reset"), True, False),
        (Fault("drip"), True, True),
    ],
)
def test_a_cost_is_unknown_exactly_where_the_response_did_not_tell_it(
    fault: Fault, stream: bool, known: bool
) -> None:
    with emulator(lambda request: Answer("An answer. " * 20, fault=fault)) as server:
        url, price = server.openai_url, Price("1", "2")
        tier = Tier("only", "openai-compatible:desk", base_url=url, price=price)
        agent = Agent("desk", "Answer.", tiers=[tier], fallback="Later.", deadline_s=1.0)
        if stream:
            list(agent.stream("Hello there!", session="s1"))
        else:
            agent.invoke("Hello there!", session="s1")
        rows: list[Any] = agent.memory.ledger.calls()
        assert rows
        assert {row.cost is not None for row in rows} == {known}
        if fault.kind == "status":
            assert {row.cost for row in rows} == {0}


def test_a_server_that_cannot_be_reached_costs_nothing() -> None:
    with emulator(lambda request: Answer("Hello.")) as server:
        url = server.openai_url
    tier = Tier("only", "openai-compatible:desk", base_url=url, price=Price("1", "2"))
    agent = Agent("desk", "Answer.", tiers=[tier], fallback="Later.", deadline_s=1.0)
    assert agent.invoke("Hello there!", session="s1").text == "Later."
    rows = agent.memory.ledger.calls()
    assert {(row.outcome, row.cost) for row in rows} == {("error:connection", 0)}
