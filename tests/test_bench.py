"""The benchmark runs, and reports every comparison that has a goal. What it measures depends on the machine."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
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
    command = [sys.executable, str(SCRIPTS / "bench_chat.py"), "--quick", "--repeats", "1", "--out", str(out)]
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


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A README with the marks, and the scripts beside it, of which one was run tiny."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("samples", "bench.json"))
    (root / "scripts/samples").symlink_to(SCRIPTS / "samples")
    (root / "README.md").write_text("# before\n\n<!-- BENCHMARKS -->\nold\n<!-- /BENCHMARKS -->\n\nafter\n")
    kept = {"machine": {"cpu": "other"}, "rows": [row("kept", 0.5, goal=0.6), row("slow", 3.0, unit="ms")]}
    (root / "scripts/bench.json").write_text(json.dumps({"scoring": kept}))
    bench(root, "--only", "peers", "--", "--quick", "--repeats", "1")
    return root


def row(name: str, value: float, unit: str = "", goal: float | None = None) -> dict:
    met = None if goal is None else value <= goal
    return {
        "part": "p", "name": name, "value": value, "unit": unit, "note": "", "goal": goal, "more_is_better": False,
        "met": met,
    }  # fmt: skip


def bench(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts/bench.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_all_peers_answer_and_train(project: Path):
    rows = json.loads((project / "scripts/bench.json").read_text())["peers"]["rows"]
    assert all(math.isfinite(r["value"]) and r["value"] > 0 for r in rows)
    for peer, theirs in (("InstructBlipVideo", 64), ("VideoLlava", 80), ("LlavaNextVideo", 16)):
        mine = {r["name"]: r for r in rows if r["name"].endswith(f" {peer}")}
        assert len(mine) == 4 and f"training step, cached / {peer}" in mine
        assert mine[f"first token, ours / {peer}"]["note"].endswith(f"8 visual tokens, theirs {theirs}")


def test_one_benchmark_leaves_the_others_results(project: Path):
    text = (project / "README.md").read_text()
    assert text.startswith("# before") and text.endswith("after\n") and "old" not in text
    assert "| scoring | kept | 0.5 | ≤ 0.6 |" in text and "| peers | first token, ours / VideoLlava |" in text
    assert "| slow |" not in text  # neither a comparison nor with a goal, beside one that is
    assert "scoring: cpu other." in text and "peers: cpu " in text


def test_a_benchmark_that_compares_nothing_is_told_whole(project: Path):
    text = bench(project, "--only", "length", "--", "--model", "debug", "--minutes", "1", "--segments", "100").stdout
    assert "| length | 1 min of video: from the file to one token |" in text
    rows = json.loads((project / "scripts/bench.json").read_text())["length"]["rows"]
    assert all(math.isfinite(r["value"]) and r["value"] > 0 for r in rows)
    assert "; 120 frames in " in rows[0]["note"] and rows[2]["note"].startswith("10 videos, ")
    told = [cells for cells in (project / "README.md").read_text().splitlines() if cells.startswith("| length |")]
    assert [cells.split(" | ")[1] for cells in told] == [r["name"] for r in rows]


def test_the_table_is_written_again_from_what_is_kept(project: Path):
    before = (project / "README.md").read_text()
    bench(project, "--only")
    assert (project / "README.md").read_text() == before


def test_a_readme_without_marks_is_left_alone(tmp_path: Path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("samples"))
    (tmp_path / "README.md").write_text("nothing")
    command = [sys.executable, str(tmp_path / "scripts/bench.py"), "--only"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "has no line <!-- BENCHMARKS -->" in done.stderr
    assert (tmp_path / "README.md").read_text() == "nothing"
