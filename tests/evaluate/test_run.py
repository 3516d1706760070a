"""`videollm eval` as it is used: same numbers twice, after a kill, in any order, from predictions made elsewhere."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.evaluate.conftest import evaluate, lines, report, write_lines
from videollm.checkpoint import Model, load
from videollm.datasets.evaluation_folder import ItemQuery
from videollm.datasets.item import Item
from videollm.datasets.registry import choose_item_reader
from videollm.evaluate.run import Row, predict, read, selected
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS
from videollm.evaluate.views import AS_IT_IS, CONTROLS

SOME = ("--limit", 16)
CONDITIONS = [AS_IT_IS, *CONTROLS]


@pytest.fixture(scope="module")
def model() -> Model:
    return load("debug")


def items_of(world: Path, task: str, *splits: str) -> list[Item]:
    data = choose_item_reader(world, task).read(world, ItemQuery(task, splits))
    return selected([item for item in data.items if TASKS[task].lacks(item) is None], None)


@pytest.fixture(scope="module")
def first(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first")
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--out", out, *SOME) == 0
    return out


def test_two_runs_are_identical(world: Path, first: Path, tmp_path: Path):
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--out", tmp_path, *SOME) == 0
    for name in ("predictions.jsonl", "scores.jsonl", "run.json"):
        assert (tmp_path / name).read_bytes() == (first / name).read_bytes()
    a, b = report(tmp_path), report(first)
    assert a.pop("cost")["predicted"] == b.pop("cost")["predicted"] > 0
    assert a == b


def test_a_killed_run_goes_on_where_it_was(world: Path, first: Path, tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "videollm.cli",
        "eval",
        "mcqa",
        "--model",
        "debug",
        "--data",
        world,
        *map(str, SOME),
    ]
    process = subprocess.Popen([*command, "--out", tmp_path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    written, until = tmp_path / "predictions.jsonl", time.monotonic() + 120
    while not (written.exists() and written.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None and time.monotonic() < until
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole = (first / "predictions.jsonl").read_bytes()
    assert len(written.read_bytes()) < len(whole)
    with written.open("ab") as file:
        file.write(b'{"id": "test-0000')  # as if it had died in the middle of a line
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--out", tmp_path, *SOME) == 0
    assert written.read_bytes() == whole
    cost = report(tmp_path)["cost"]
    assert cost["resumed"] >= 5 and cost["predicted"] + cost["resumed"] == whole.count(b"\n")


def test_an_item_s_prediction_depends_on_no_other_item(world: Path, first: Path, tmp_path: Path, model: Model):
    """In reverse order, and alone."""
    every = items_of(world, "mcqa")
    items = selected(every, 4)  # which are among the sixteen
    made = read(first / "predictions.jsonl")
    identity = {"seed": 0}
    backwards = Subject(model, every, items[::-1])
    predict(TASKS["mcqa"], backwards, items[::-1], CONDITIONS, tmp_path / "backwards", identity)
    alone = Subject(model, every, items[2:3])
    predict(TASKS["mcqa"], alone, items[2:3], CONDITIONS, tmp_path / "alone", identity)
    for out in ("backwards", "alone"):
        for condition, rows in read(tmp_path / out / "predictions.jsonl").items():
            assert all(row == made[condition][name] for name, row in rows.items())


def test_a_limited_run_is_a_part_of_the_whole(world: Path, first: Path, tmp_path: Path):
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--out", tmp_path, "--limit", 4) == 0
    some = (tmp_path / "predictions.jsonl").read_text().splitlines()
    every = (first / "predictions.jsonl").read_text().splitlines()
    assert len(some) == 4 * len(CONDITIONS) and set(some) <= set(every)


def test_another_run_is_not_mixed_in(world: Path, first: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--out", first, "--split", "test", *SOME) == 2
    assert "holds another run (other data)" in capsys.readouterr().err


def test_the_report_says_what_a_score_belongs_to(first: Path):
    found = report(first)
    assert found["model"]["name"] == "debug" and re.fullmatch("[0-9a-f]{12}", found["model"]["config_sha"])
    assert set(found["data"]["files"]) == {"test/annotations.jsonl", "unseen/annotations.jsonl"}
    assert set(found["controls"]) == {*CONTROLS, "question_only"} and found["seed"] == 0
    assert set(found["slices"]["generalisation"]) == {"in domain", "zero-shot"}
    assert found["cost"]["seconds"] > 0 and found["cost"]["peak_memory_mb"] > 100
    accuracy = found["scores"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert 0.2 < found["chance"]["accuracy"] < 0.51
    kinds = found["slices"]["kind"].values()
    assert sum(k["accuracy"]["items"] for k in kinds) == accuracy["items"] == found["data"]["asked"]


def test_the_page_stands_alone(first: Path):
    page = (first / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") >= 2 and "chance" in page
    assert not re.search(r"<script|<link|<img|src=|url\(|https?://", page)
    text = (first / "report.md").read_text()
    assert "## Score and controls" in text and "| wrong_video |" in text


def test_weights_are_hashed(tmp_path: Path, model: Model):
    from videollm.checkpoint import save
    from videollm.evaluate.run import describe_model

    save(model, tmp_path / "m")
    before = describe_model(str(tmp_path / "m"), model)["weights"]
    with (tmp_path / "m" / "projector.safetensors").open("ab") as file:
        file.write(b" ")
    after = describe_model(str(tmp_path / "m"), model)["weights"]
    assert set(before) == set(after) == {"projector.safetensors"} and before != after


def right_answers(world: Path) -> list[dict]:
    return [{"id": i.id, "prediction": {"answer": i.references[0]}} for i in items_of(world, "openqa")]


def test_predictions_made_elsewhere_are_scored(world: Path, tmp_path: Path):
    rows = right_answers(world)
    rows[0]["prediction"]["answer"] = "wrong"
    made = write_lines(tmp_path / "made.jsonl", rows)
    arguments = ("score", made, "--task", "openqa", "--data", world, "--out", tmp_path / "out")
    assert evaluate(*arguments) == 0
    found = report(tmp_path / "out")
    assert found["scores"]["exact"]["value"] == pytest.approx(1 - 1 / len(rows), abs=1e-6)
    assert (
        set(found["controls"]) == {"question_only"}
        and found["predictions"]["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    )


def test_an_item_without_prediction_is_an_error(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = write_lines(tmp_path / "made.jsonl", right_answers(world)[1:])
    assert evaluate("score", made, "--task", "openqa", "--data", world, "--out", tmp_path / "out") == 2
    assert "1 of" in capsys.readouterr().err


def test_what_fails_is_counted_and_not_scored(world: Path, tmp_path: Path):
    rows = right_answers(world)
    rows[0] = {"id": rows[0]["id"], "error": "clip.mp4: broken"}
    made = write_lines(tmp_path / "made.jsonl", rows)
    assert evaluate("score", made, "--task", "openqa", "--data", world, "--out", tmp_path / "out") == 0
    found = report(tmp_path / "out")
    assert found["scores"]["exact"]["value"] == 1 and found["scores"]["exact"]["items"] == len(rows) - 1
    assert found["failures"] == {"video": {rows[0]["id"]: "clip.mp4: broken"}}


def test_a_broken_video_fails_alone(world: Path, tmp_path: Path, model: Model):
    items = items_of(world, "openqa", "test")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    items[0] = Item(id="broken", video=broken, question="?", references=("!",))
    subject = Subject(model, items, items[:2])
    predict(TASKS["openqa"], subject, items[:2], ["video"], tmp_path / "out", {})
    rows = read(tmp_path / "out" / "predictions.jsonl")["video"]
    assert "broken.mp4" in (rows["broken"].error or "") and rows[items[1].id].prediction is not None


@pytest.mark.parametrize(
    "line", ["{", '{"id": "a"}', '{"id": "a", "prediction": 3}', "[]", '{"id": "a", "prediction": {}}\n' * 2]
)
def test_a_file_that_is_no_predictions_is_refused(tmp_path: Path, line: str):
    from videollm.errors import DataError

    file = tmp_path / "p.jsonl"
    file.write_text(line)
    with pytest.raises(DataError, match="line"):
        read(file)


def test_missing_videos_are_counted_before_the_model_loads(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = write_lines(tmp_path / "items.jsonl", [{"id": "a", "video": "no.mp4", "question": "?", "references": ["!"]}])
    assert evaluate("openqa", "--model", "none/such", "--data", own.parent, "--out", tmp_path / "out") == 2
    assert "1 of 1 videos do not exist; the first is" in capsys.readouterr().err


def test_compare_pairs_items(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = right_answers(world)
    for name, wrong in (("a", 10), ("b", 4)):
        changed = [r if n >= wrong else {"id": r["id"], "prediction": {"answer": ""}} for n, r in enumerate(rows)]
        made = write_lines(tmp_path / f"{name}.jsonl", changed)
        assert evaluate("score", made, "--task", "openqa", "--data", world, "--out", tmp_path / name) == 0
    capsys.readouterr()
    assert evaluate("compare", tmp_path / "a", tmp_path / "b", "--json") == 0
    found = json.loads(capsys.readouterr().out)["exact"]
    assert found["difference"]["value"] == pytest.approx(6 / len(rows))
    assert found["difference"]["value"] == pytest.approx(found["b"]["value"] - found["a"]["value"])
    assert found["difference"]["low"] >= 0 and found["difference"]["clusters"] == 6


def test_compare_refuses_other_tasks_and_other_data(
    world: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = write_lines(tmp_path / "p.jsonl", right_answers(world))
    assert evaluate("score", made, "--task", "openqa", "--data", world, "--out", tmp_path / "q") == 0
    assert evaluate("compare", first, tmp_path / "q") == 2
    assert evaluate("compare", first, tmp_path) == 2
    errors = capsys.readouterr().err
    assert "evaluates the task mcqa and" in errors and "the task openqa" in errors and "holds no report" in errors


def test_a_row_is_the_same_after_a_round_trip():
    row = Row("x", "blank", {"answer": "é", "n": [1.5]})
    assert json.loads(row.to_json()) == {"id": "x", "condition": "blank", "prediction": {"answer": "é", "n": [1.5]}}


def test_two_items_of_one_id_are_refused(tmp_path: Path):
    from videollm.errors import DataError

    twice = [Item(id="a", video=tmp_path), Item(id="a", video=tmp_path / "x")]
    with pytest.raises(DataError, match="two items have the id 'a'"):
        selected(twice, None)


def test_lines_of_scores_pair_with_predictions(first: Path):
    ids = [row["id"] for row in lines(first / "scores.jsonl")]
    assert ids == [r["id"] for r in lines(first / "predictions.jsonl") if r["condition"] == "video"]
