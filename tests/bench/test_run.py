"""scripts/bench/run.py keeps results, and writes its table between the marks of the README beside it."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A README with the marks, and the scripts beside it, of which one was run tiny."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("samples", "results.json"))
    (root / "scripts/samples").symlink_to(SCRIPTS / "samples")
    (root / "scripts/bench/README.md").write_text(
        "# before\n\n<!-- BENCHMARKS -->\nold\n<!-- /BENCHMARKS -->\n\nafter\n"
    )
    kept = {"machine": {"cpu": "other"}, "rows": [row("kept", 0.5, goal=0.6), row("slow", 3.0, unit="ms")]}
    (root / "scripts/bench/results.json").write_text(json.dumps({"scoring": kept}))
    bench(root, "--only", "peers", "--", "--quick", "--repeats", "1")
    return root


def row(name: str, value: float, unit: str = "", goal: float | None = None) -> dict:
    met = None if goal is None else value <= goal
    return {
        "part": "p", "name": name, "value": value, "unit": unit, "note": "", "goal": goal, "more_is_better": False,
        "met": met,
    }  # fmt: skip


def bench(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts/bench/run.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_all_peers_answer_and_train(project: Path):
    rows = json.loads((project / "scripts/bench/results.json").read_text())["peers"]["rows"]
    assert all(math.isfinite(r["value"]) and r["value"] > 0 for r in rows)
    for peer, theirs in (("InstructBlipVideo", 64), ("VideoLlava", 80), ("LlavaNextVideo", 16)):
        mine = {r["name"]: r for r in rows if r["name"].endswith(f" {peer}")}
        assert len(mine) == 4 and f"training step, cached / {peer}" in mine
        assert mine[f"first token, ours / {peer}"]["note"].endswith(f"8 visual tokens, theirs {theirs}")


def test_one_benchmark_leaves_the_others_results(project: Path):
    text = (project / "scripts/bench/README.md").read_text()
    assert text.startswith("# before") and text.endswith("after\n") and "old" not in text
    assert "| scoring | kept | 0.5 | ≤ 0.6 |" in text and "| peers | first token, ours / VideoLlava |" in text
    assert "| slow |" not in text  # neither a comparison nor with a goal, beside one that is
    assert "scoring: cpu other." in text and "peers: cpu " in text


def test_a_benchmark_that_compares_nothing_is_told_whole(project: Path):
    few = ("--minutes", "1", "--clips", "3", "--segments", "100")
    text = bench(project, "--only", "length", "--", "--model", "debug", *few).stdout
    assert "| length | 1 min of video: from the file to one token |" in text
    rows = json.loads((project / "scripts/bench/results.json").read_text())["length"]["rows"]
    assert all(math.isfinite(r["value"]) and r["value"] > 0 for r in rows)
    assert "; 120 frames in " in rows[0]["note"] and rows[-1]["note"].startswith("10 videos, ")
    assert rows[-2]["note"].startswith("3 clips of 4 s")
    told = [
        cells
        for cells in (project / "scripts/bench/README.md").read_text().splitlines()
        if cells.startswith("| length |")
    ]
    assert [cells.split(" | ")[1] for cells in told] == [r["name"] for r in rows]


def test_the_table_is_written_again_from_what_is_kept(project: Path):
    before = (project / "scripts/bench/README.md").read_text()
    bench(project, "--only")
    assert (project / "scripts/bench/README.md").read_text() == before


def test_a_readme_without_marks_is_left_alone(tmp_path: Path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("samples"))
    (tmp_path / "scripts/bench/README.md").write_text("nothing")
    command = [sys.executable, str(tmp_path / "scripts/bench/run.py"), "--only"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "has no line <!-- BENCHMARKS -->" in done.stderr
    assert (tmp_path / "scripts/bench/README.md").read_text() == "nothing"
