"""The benchmark of training steps runs, and judges every comparison that has a goal."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
PEER = "InstructBlipVideo, float32"
GOALS = {
    ("step", f"float32 / {PEER}"): 0.40,
    ("step", f"bfloat16 / {PEER}"): 0.25,
    ("step", f"bfloat16, cached features / {PEER}"): 0.12,
    ("cache", "decoded and encoded / from shards"): 20,
}


def test_every_goal_is_measured_and_judged(tmp_path: Path):
    out = tmp_path / "bench.json"
    command = [sys.executable, str(SCRIPTS / "bench_train.py"), "--quick", "--repeats", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {(row["part"], row["name"]): row for row in json.loads(out.read_text())["rows"]}
    assert {key: row["goal"] for key, row in rows.items() if row["goal"] is not None} == GOALS
    assert all(row["value"] > 0 for row in rows.values())
    for key, goal in GOALS.items():
        value, more = rows[key]["value"], rows[key]["more_is_better"]
        assert rows[key]["met"] == (value >= goal if more else value <= goal)
    assert f"| step | float32 / {PEER} |" in done.stdout
