"""Questions about a stream are answered from what was shown until then, and are right only if the answer holds then."""

import math
from pathlib import Path

import pytest

from data_gen.make_world import main as make_world
from tests.evaluate.conftest import asked, evaluate, report
from videollm import checkpoint
from videollm.datasets.item import Item
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS
from videollm.evaluate.tasks.live import Recording
from videollm.evaluate.views import AS_IT_IS, WHOLE_VIDEO

TASK = TASKS["live"]


@pytest.fixture(scope="module")
def changing_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("changing")
    sizes = ["--size", "64", "--seconds", "16", "20", "--processes", "1"]
    assert make_world(["--out", str(out), "--split", "test=3", *sizes]) == 0
    return out


@pytest.fixture(scope="module")
def items(changing_world: Path) -> list[Item]:
    return asked(changing_world, TASK)


def test_answers_change_with_the_time(items: list[Item]):
    by_question: dict[tuple[Path, str], list[str]] = {}
    for item in sorted(items, key=lambda item: item.end_s or 0.0):
        by_question.setdefault((item.video, item.question), []).append(item.references[0])
        assert item.question.endswith(" now?") and item.end_s and item.end_s > 1
    twice = [answers for answers in by_question.values() if len(answers) > 1]
    assert len(twice) >= 3 and all(answers[0] != answers[1] for answers in twice)
    # The answer of the last time is that of the end, since nothing changes after it.
    assert any(item.references[0] != item.references[1] for item in items)


def test_only_the_answer_of_the_time_is_right(items: list[Item]):
    now, end = ([{"choice": item.choices.index(item.references[at])} for item in items] for at in (0, 1))
    for predictions, expected in ((now, (1, 1, 0)), (end, (None, 0, 1))):
        rows = TASK.score(items, predictions)
        changing = [value for value in rows["changing"] if not math.isnan(value)]
        foreseen = [value for value in rows["foreseen"] if not math.isnan(value)]
        assert 0 < len(changing) == len(foreseen) < len(items)
        assert set(changing) == {expected[1]} and set(foreseen) == {expected[2]}
        assert (rows["accuracy"] == 1).all() == (predictions is now)


def test_nothing_is_seen_of_what_comes_later(items: list[Item]):
    model = checkpoint.load("debug")
    item = next(item for item in items if item.references[0] != item.references[1])
    assert item.end_s is not None
    recording = Recording.of(model, item.video)
    session = recording.watched(model, item.end_s)
    assert session.latest <= item.end_s < recording.times_s[-1]
    assert session.latest > item.end_s - 1.01  # and nothing is missing of what came before
    assert max(float(part.times.max()) for part in session.segments(0.0)) == session.latest

    known = Subject(model, items, items)
    predicted = TASK.predict(known, item, AS_IT_IS)
    assert predicted == TASK.predict(Subject(model, items, items), item, AS_IT_IS)  # whatever was asked before
    assert predicted["logprobs"] != TASK.predict(known, item, WHOLE_VIDEO)["logprobs"]


def test_the_command_reports_the_control_that_knows_the_whole_video(changing_world: Path, tmp_path: Path):
    assert evaluate("live", "--model", "debug", "--data", changing_world, "--limit", 6, "--out", tmp_path) == 0
    found = report(tmp_path)
    assert set(found["controls"]) == {WHOLE_VIDEO, "text_only", "question_only"}
    assert list(found["scores"]) == ["accuracy", "changing", "foreseen"]
    assert found["scores"]["accuracy"]["items"] == 6 and 0.2 < found["chance"]["accuracy"] <= 0.5
