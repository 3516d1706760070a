"""A task of lmms-eval's own, Video-MME with its prompt and its scoring, on local clips with our model.

Runs where lmms-eval is installed; the README says how.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.evaluate.conftest import lines, write_lines
from videollm.datasets.evaluation_folder import ItemQuery
from videollm.datasets.item import Item
from videollm.datasets.registry import choose_item_reader
from videollm.errors import ConfigError
from videollm.evaluate.lmms import Responder

pytestmark = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="needs lmms-eval, see README")

SCORE = "videomme_perception_score"
YAML = """\
include: {videomme}
task: videomme_here
dataset_path: json
dataset_kwargs:
  data_files:
    test: {docs}
"""


def document(number: int, item: Item) -> dict[str, object]:
    """A row as Video-MME publishes it."""
    letters = "ABCD"
    right = item.choices.index(item.references[0])
    options = [f"{letter}. {choice}" for letter, choice in zip(letters, item.choices, strict=False)]
    kinds = {"duration": "short", "domain": "Knowledge", "sub_category": "Astronomy", "task_type": "Counting Problem"}
    asked = {"question": item.question, "options": options, "answer": letters[right]}
    return {"question_id": f"{number}-1", "videoID": item.video.stem, **asked, **kinds}


def test_video_mme_on_local_clips(world: Path, tmp_path: Path):
    items = choose_item_reader(world, "mcqa").read(world, ItemQuery("mcqa", ("test",))).items
    some = [item for item in items if 2 <= len(item.choices) <= 4][:6]
    docs = write_lines(tmp_path / "docs.jsonl", [document(n, item) for n, item in enumerate(some)])
    (tmp_path / "home/videomme").mkdir(parents=True)
    (tmp_path / "home/videomme/data").symlink_to(world / "test/clips")
    spec = find_spec("lmms_eval")
    assert spec and spec.origin
    task = YAML.format(videomme=Path(spec.origin).parent / "tasks/videomme/videomme.yaml", docs=docs)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/videomme_here.yaml").write_text(task)

    model = ["--model", "videollm", "--model_args", "pretrained=debug", "--batch_size", "1"]
    tasks = ["--tasks", "videomme_here", "--include_path", str(tmp_path / "tasks")]
    output = ["--output_path", str(tmp_path / "out"), "--log_samples"]
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *model, *tasks, *output],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
    )
    assert done.returncode == 0 and "Error during" not in done.stdout + done.stderr, (done.stdout + done.stderr)[-3000:]
    print(done.stdout)

    (results,) = (tmp_path / "out").rglob("*_results.json")
    scores = json.loads(results.read_text())["results"]["videomme_here"]
    assert 0 <= scores[f"{SCORE},none"] <= 100
    (samples,) = (tmp_path / "out").rglob("*_samples_*.jsonl")
    assert len(lines(samples)) == len(some)


def test_pictures_in_memory_are_refused():
    with pytest.raises(ConfigError, match="the task gives a bytes; videollm takes paths"):
        Responder("debug", "cpu")("What?", [b""], {})
