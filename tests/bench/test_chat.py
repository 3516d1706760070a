"""The chat benchmark runs, and reports every comparison that has a goal. What it measures depends on the machine."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
GOALS = {
    ("decode", "ours / PyAV"): 0.85,
    ("encode", "share of matmul rate, batch 8"): 0.75,
    ("chat", "turn 2 / encoding and prefilling again"): 0.1,
    ("chat", "turn 1 / turn 2"): 8,
    ("peer", "first token, ours / peer"): 0.55,
    ("peer", "4 tokens, ours / peer"): 0.65,
    ("peer", "first token, ours / peer, one segment"): 0.55,
    ("peer", "4 tokens, ours / peer, one segment"): 0.65,
    ("start", "videollm --help"): 1000,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    """What --out holds, and what is printed."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    command = [sys.executable, str(SCRIPTS / "bench/chat.py"), "--quick", "--repeats", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_every_goal_is_measured_and_judged(run: tuple[dict, str]):
    rows = {(row["part"], row["name"]): row for row in run[0]["rows"]}
    assert {key: row["goal"] for key, row in rows.items() if row["goal"] is not None} == GOALS
    for key, goal in GOALS.items():
        value, more = rows[key]["value"], rows[key]["more_is_better"]
        assert rows[key]["met"] == (value >= goal if more else value <= goal)


def test_every_number_is_finite_and_above_zero(run: tuple[dict, str]):
    values = [row["value"] for row in run[0]["rows"]] + [run[0]["machine"]["matmul GFLOP/s"]]
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_second_turns_keep_the_first_turns_prompt(run: tuple[dict, str]):
    (note,) = (row["note"] for row in run[0]["rows"] if row["name"] == "turn 2, first token")
    kept, _, whole, *_ = note.split()
    assert 0.5 * int(whole) < int(kept) < int(whole)


def test_both_sides_state_their_visual_tokens(run: tuple[dict, str]):
    notes = {row["name"]: row["note"] for row in run[0]["rows"]}
    assert notes["turn 1, first token, from frames"].startswith("8 visual of ")  # 2 segments of 4 queries
    assert notes["first token, ours / peer, one segment"].startswith("4 visual of ")
    assert notes["InstructBlipVideo, first token, from frames"] == "64 visual tokens"  # 16 frames of 4 queries


def test_the_printed_table_has_every_row(run: tuple[dict, str]):
    lines = [line for line in run[1].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[1] for line in lines[2:]] == [row["name"] for row in run[0]["rows"]]
