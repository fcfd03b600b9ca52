"""The measures on recorded conversations, on one file of each desk; skipped where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "conversations"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the recorded conversations")

CODE = """
import json, sys
from pathlib import Path
from benchmarks.economy.bills import bill
from benchmarks.economy.recorded import load
data, name, desk, model = sys.argv[1:]
found = load(Path(data, f"{desk}_{name}.jsonl"), Path(data, f"{desk}_tools.json"))
print(json.dumps(bill(found[:25], model, 4)))
"""


def measure(desk, name, model):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(DATA), name, desk, model],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("desk", "name"), [("airline", "claude-opus-4-6"), ("telecom", "gpt-4.1")])
@pytest.mark.parametrize("model", ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol"])
def test_the_bill_is_near_the_limit_and_was_predicted(desk, name, model):
    found = measure(desk, name, model)
    assert found["over_limit"] <= 1.05
    assert found["read_share"] >= 0.93
    assert abs(found["predicted_bias"]) <= 0.02
    assert found["predicted_within_5_percent"] >= 0.95
    assert found["missed_explained"] >= 0.99


def test_a_prefix_just_below_the_minimum_costs_what_its_report_says():
    """Haiku 4.5 caches nothing below 4,096 tokens, and the airline desk's prefix is shorter."""
    code = """
import json, sys
from pathlib import Path
from benchmarks.economy.recorded import load
from agentmesh.economy.planner import plan
from agentmesh.economy.semantics import semantics
data = Path(sys.argv[1])
first = load(data / "airline_claude-opus-4-6.jsonl", data / "airline_tools.json")[0]
made = plan(first.layers, first.entries[:2], semantics("anthropic:claude-haiku-4-5"))
print(json.dumps([made.shortfall.layer, made.shortfall.tokens, made.shortfall.missing]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(DATA)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    layer, tokens, missing = json.loads(done.stdout)
    assert layer == "core"
    assert tokens + missing == 4_096
