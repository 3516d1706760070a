"""The programs and the notebook in scripts/examples run, and print what they promise."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.fork_server import python
from tests.serve.conftest import Server

EXAMPLES = Path(__file__).parents[1] / "scripts/examples"
TIMEOUT_S = 500  # an example takes seconds; a machine whose cores are shared takes longer


def run(name: str, *arguments: str | Path) -> str:
    """The standard output of an example."""
    return output_of([python(), str(EXAMPLES / name), *map(str, arguments)])


def output_of(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_has_a_test():
    tested = re.findall(r'"(\w+\.(?:py|ipynb))"', Path(__file__).read_text())
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == set(tested)


def test_asking_a_video_shows_evidence_and_reuses_the_prompt():
    printed = run("ask_a_video.py", "--model", "debug")
    first, second = re.findall(r"(\d+) of (\d+) prompt tokens were in the cache", printed)
    assert first[0] == "0" and second[0] == first[1]  # all of the first prompt
    assert len(re.findall(r"^  [\d.]+-[\d.]+ s, score -?[\d.]+$", printed, re.MULTILINE)) == 6


def test_searching_a_folder_finds_the_moment(tmp_path: Path):
    first = run("search_a_folder.py", "a rocket", "--index", tmp_path / "index").splitlines()
    assert first[0] == "3 videos added, 0 unchanged" and first[1].endswith("8.0-12.0 s  sample.mp4")
    second = run("search_a_folder.py", "a cat", "--index", tmp_path / "index").splitlines()
    assert second[0] == "0 videos added, 3 unchanged" and second[1].endswith("0.0-4.0 s  sample.mp4")


def test_streaming_with_openais_client_gets_an_answer(tmp_path: Path):
    server = Server(tmp_path / "server.log", "--model", "lite").ready()
    try:
        printed = run("stream_with_openai.py", "--base-url", f"{server.url}/v1")
    finally:
        server.stop()
    assert printed == "A cat, then an espresso, then a rocket. 1 cup is seen.\n"


def test_training_on_own_rows_leaves_two_checkpoints(tmp_path: Path):
    run("train_on_own_rows.py", "--out", tmp_path)
    for stage in ("stage1", "stage2"):
        assert (tmp_path / stage / "projector.safetensors").is_file()


def test_evaluating_own_questions_writes_a_report(tmp_path: Path):
    printed = run("evaluate_own_questions.py", "--model", "debug", "--out", tmp_path)
    assert re.search(r"^accuracy +0\.\d+ .*blank 0\.\d+.*chance 0\.333$", printed, re.MULTILINE)
    assert (tmp_path / "report/report.html").is_file()


@pytest.fixture(scope="module")
def notebook() -> list[dict]:
    return json.loads((EXAMPLES / "tour.ipynb").read_text())["cells"]


def test_the_notebook_runs(notebook: list[dict]):
    program = "\n".join("".join(cell["source"]) for cell in notebook if cell["cell_type"] == "code")
    printed = output_of([python(), "-c", program], cwd=EXAMPLES)
    assert "A cat, then an espresso, then a rocket." in printed
    assert "('cat', " in printed and "[(4.0, 8.0)]" in printed


def test_the_notebook_is_stored_without_outputs(notebook: list[dict]):
    cells = [cell for cell in notebook if cell["cell_type"] == "code"]
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
