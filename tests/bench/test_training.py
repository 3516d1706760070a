"""The benchmark of training steps runs, and judges every comparison that has a goal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.rows import sample

SCRIPTS = Path(__file__).parents[2] / "scripts"
PEER = "InstructBlipVideo, float32"
GOALS = {
    ("step", f"float32 / {PEER}"): 0.40,
    ("step", f"bfloat16 / {PEER}"): 0.25,
    ("step", f"bfloat16, cached features / {PEER}"): 0.12,
    ("cache", "decoded and encoded / from shards"): 20,
    ("padding", "tokens computed, any order / like length"): 1.3,
    ("padding", "time of steps, any order / like length"): 1.3,
}


def test_every_goal_is_measured_and_judged(tmp_path: Path):
    out, data = tmp_path / "bench.json", tmp_path / "rows.jsonl"
    talks = [sample(str(i), "qa", "What is it?", "A cat, " * (1 if i % 2 else 300) + "it seems.") for i in range(64)]
    data.write_text("".join(row.to_json() + "\n" for row in talks))
    command = [sys.executable, str(SCRIPTS / "bench/training.py"), "--quick", "--repeats", "1", "--out", str(out)]
    command += ["--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {(row["part"], row["name"]): row for row in json.loads(out.read_text())["rows"]}
    assert {key: row["goal"] for key, row in rows.items() if row["goal"] is not None} == GOALS
    assert all(row["value"] > 0 for row in rows.values())
    for key, goal in GOALS.items():
        value, more = rows[key]["value"], rows[key]["more_is_better"]
        assert rows[key]["met"] == (value >= goal if more else value <= goal)
    assert f"| step | float32 / {PEER} |" in done.stdout
    tokens = {name: row["value"] for (part, name), row in rows.items() if part == "padding" and "real" in name}
    assert tokens["any order, tokens computed / real"] > 1.5  # each batch is as long as its longest row
    assert tokens["like length, tokens computed / real"] == pytest.approx(1, abs=1e-6)
    assert rows["padding", "tokens computed, any order / like length"]["met"]
