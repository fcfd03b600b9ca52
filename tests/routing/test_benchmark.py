import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_says_what_it_skips_where_the_data_is_not_there(tmp_path):
    command = [sys.executable, "benchmarks/routing", "--json", "--only", "steps", "gsm8k"]
    done = subprocess.run(
        [*command, "--data", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    assert done.stderr.count("skipped") == 2
    assert "--data" in done.stderr


def test_prints_a_figure_with_its_interval_baseline_and_target(tmp_path):
    (tmp_path / "routing").mkdir()
    rows = [
        {
            "instance_id": f"i{i}",
            "target_tier_id": 3 * (i % 2),
            "messages": [
                {"role": "user", "content": ("sum up", "mend the parser")[i % 2] + f" {i}"}
            ],
        }
        for i in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "routing" / "agent_steps.jsonl").write_text(text)
    command = [
        sys.executable,
        "-m",
        "benchmarks.routing",
        "--only",
        "steps",
        "--data",
        str(tmp_path),
    ]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    row = next(line for line in table.splitlines() if "trajectories kept whole" in line)
    assert "target ≥ 95.0%" in row
    assert "always low 50%" in row
    assert "100.0%" in row
