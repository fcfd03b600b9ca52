from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_vendors_refuse_no_plan_and_read_all_that_was_written():
    """The seeded fuzz of the benchmark, smaller: real bodies, the emulator's reader and cache."""
    code = "import json; from benchmarks.economy.fuzz import fuzz; print(json.dumps(fuzz(300, 7)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["plans"] >= 300
    assert result["invalid"] == 0, result["examples"]
    assert result["other_faults"] == {}, result["examples"]
