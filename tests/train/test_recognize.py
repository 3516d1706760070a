"""`train/recognize.py` for real, at toy size: learning, views, formats, resuming from it, the command that uses it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.train import processes, tiny
from train import recognize, retrieval
from train.configs.recognition import RECOGNITION, RecognitionRecipe
from train.data.frames import frame_store
from train.data.labels import LabelBatches, LabelledVideo, classes_of, read_labels, write_labels
from train.data.pairs import VideoInterval
from train.data.world import event_labels
from train.tasks.backbone import load_backbone, save_backbone, towers, whiten
from train.tasks.heads import build_retrieval_model
from train.tasks.recognition import RecognitionTask, accuracy
from videollm.cli.main import main as videollm
from videollm.errors import CheckpointError, ConfigError, DataError, VideoError
from videollm.retrieval import model as directory
from videollm.retrieval.inputs import normalise
from videollm.retrieval.recogniser import CLASSIFIER_FILE, Recogniser, views_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recognize")
    tiny.make(made)
    write_labels(made / "labels.jsonl", event_labels(made / "world/order"))
    return made


def recipe(folder: Path, output: Path, **changes: object) -> RecognitionRecipe:
    files = {name: str(folder / "labels.jsonl") for name in ("data", "eval_data")}
    places = {"cache": str(folder / "cache"), "backbone": f"local-dir:{folder / 'clip'}", "output": str(output)}
    return RECOGNITION["debug_recognize"].changed(**{**files, **places, "max_frames": 4, **changes})


@pytest.mark.parametrize("name", RECOGNITION)
def test_every_recipe_takes_a_step(folder: Path, tmp_path: Path, name: str):
    kept = recipe(folder, tmp_path)
    changes = {"backbone": kept.network.backbone, "data": kept.dataset.data, "cache": kept.dataset.cache}
    sizes = {"batch_size": 8, "epochs": 1, "layers": 1, "depth": 1, "max_frames": 4, "bf16": False}
    recognize.train(RECOGNITION[name].changed(**changes, **sizes, output=str(tmp_path)))
    assert Recogniser.load(tmp_path).classes == classes_of(read_labels(folder / "labels.jsonl"))


def test_a_temporal_head_learns_which_event_comes_first_and_a_bag_of_frames_does_not(folder: Path, tmp_path: Path):
    """The clips of an order pair have the same frames and exchanged labels."""
    vision, text = load_backbone(f"local-dir:{folder / 'clip'}")
    videos = [row.part for row in read_labels(folder / "labels.jsonl")]
    shown = frame_store(videos, fps=None, max_frames=4, size=32, cache=tmp_path)
    pixels, mask = shown.batch([*range(16)])
    with torch.no_grad():
        seen = vision(normalise(pixels), mask).embed.flatten(0, 1)
    whiten(vision, seen)  # pyright: ignore[reportArgumentType]
    save_backbone(tmp_path / "white", vision, text, torch.tensor(1.0))
    learn = {
        "backbone": f"local-dir:{tmp_path / 'white'}",
        "evaluate_every": 0,
        "visual": "freeze",
        "layers": 2,
        "positions": 1.0,
        "epochs": 200,
        "learning_rate": 5e-3,
        "batch_size": 16,
    }
    found = {
        head: recognize.train(recipe(folder, tmp_path / head, head=head, **learn)) for head in ("transformer", "mean")
    }
    assert found["transformer"]["top1"] > 0.9
    assert found["transformer"]["all"] > found["mean"]["all"] + 0.2
    assert found["transformer"]["top1"] <= found["transformer"]["top5"] <= 1


def test_saved_and_loaded_it_gives_the_same_logits_and_the_command_prints_its_classes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task = RecognitionTask(recipe(folder, tmp_path, head="transformer"))
    made = task.module.recogniser.eval()
    made.save(tmp_path / "model", "")
    loaded = Recogniser.load(tmp_path / "model")
    clip = folder / "world/order/clips/order-000003.mp4"
    first, last = loaded.classify(clip)
    assert [f.label for f in first] == [f.label for f in made.classify(clip)[0]]
    assert sum(f.prob for f in first) == pytest.approx(1) and {f.label for f in last} == {*made.classes[1]}

    batch = task.collate([3])["batch"]
    probs = task.module.logits(batch)[0].softmax(1)[0]
    assert first[0].label == made.classes[0][int(probs.argmax())]
    assert first[0].prob == pytest.approx(probs.max().item(), abs=0.02)  # the store's frames are whole numbers

    assert videollm(["classify", str(clip), "--model", str(tmp_path / "model"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["labels"]
    assert [row["label"] for row in told if row["of"] == 1] == [f.label for f in first]
    part = ["--start", "1.5", "--end", "3"]
    assert videollm(["classify", str(clip), "--model", str(tmp_path / "model"), "--json", *part]) == 0
    of_part = {row["label"]: row["prob"] for row in json.loads(capsys.readouterr().out)["labels"] if row["of"] == 1}
    assert of_part == pytest.approx(
        {f.label: f.prob for f in loaded.classify(clip, start_s=1.5, end_s=3.0)[0]}, abs=1e-3
    )
    assert of_part != pytest.approx({f.label: f.prob for f in first}, abs=2e-3)
    assert videollm(["classify", str(clip), "--model", str(tmp_path / "model"), "--frames", "4"]) == 2
    assert "samples frames as in its training" in capsys.readouterr().err
    assert videollm(["classify", str(clip), "--model", "debug"]) == 2
    assert "no classes of its own; give at least two labels" in capsys.readouterr().err

    directory.save(made.model, tmp_path / "model", "")  # the classes are those of other weights
    with pytest.raises(CheckpointError, match=r"has no classes\.json"):
        Recogniser.load(tmp_path / "model")
    made.save(tmp_path / "model", "")
    save_file({"weight": torch.zeros(3, 3)}, tmp_path / "model" / CLASSIFIER_FILE)
    with pytest.raises(CheckpointError, match="does not fit the classes"):
        Recogniser.load(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"a directory that train/recognize\.py wrote"):
        Recogniser.load(folder / "clip")


def test_views_lie_between_each_other_and_their_probabilities_are_averaged(folder: Path, tmp_path: Path):
    assert [v.tolist() for v in views_of(torch.arange(5), 2)] == [[0, 2, 4], [1, 3]]
    task = RecognitionTask(recipe(folder, tmp_path, head="transformer", views=2))
    module, tested = task.module.eval(), task.tested
    assert tested is not None and tested.frames.pixels.shape[1] == 8
    with torch.no_grad():
        views = [module.logits(batch)[0].softmax(1) for batch in tested.by_view([5])]
    assert not torch.allclose(*views)
    clip = folder / "world/order/clips/order-000005.mp4"
    mean = torch.stack(views).mean(0)[0]
    named = {f.label: f.prob for f in module.recogniser.classify(clip, views=2)[0]}
    assert [named[c] for c in module.recogniser.classes[0]] == pytest.approx(mean.tolist(), abs=0.02)


def test_a_view_without_frames_counts_for_nothing(folder: Path, tmp_path: Path):
    """At 0.5 frames a second and two views a clip of three seconds has three frames for four places."""
    task = RecognitionTask(recipe(folder, tmp_path, head="transformer"))
    rows = read_labels(folder / "labels.jsonl")
    model = task.module.recogniser.model
    few = task.recipe.changed(fps=0.1, max_frames=1)
    one, two = (LabelBatches(rows, few, towers(model)[0], 0, task.module.recogniser.classes, v) for v in (1, 2))
    assert int(np.isfinite(two.frames.times_s[0]).sum()) == 1
    assert accuracy(task.module, one) == accuracy(task.module, two)


def test_the_official_form_of_xclip_gets_its_padding(folder: Path, tmp_path: Path):
    asked = recipe(folder, tmp_path, head="xclip", official_compat=True, fps=1.0)
    task = RecognitionTask(asked)
    clip = folder / "world/order/clips/order-000002.mp4"
    batch = task.collate([2])["batch"]
    assert int(batch["mask"].sum()) == 3  # of four
    with torch.no_grad():
        probs = task.module.eval().logits(batch)[0].softmax(1)[0]
    named = {f.label: f.prob for f in task.module.recogniser.classify(clip)[0]}
    assert [named[c] for c in task.module.recogniser.classes[0]] == pytest.approx(probs.tolist(), abs=0.02)


def test_other_frames_than_those_of_the_head_it_starts_from(folder: Path, tmp_path: Path):
    RecognitionTask(recipe(folder, tmp_path, head="transformer")).module.recogniser.save(tmp_path / "model", "")
    again = recipe(folder, tmp_path / "again", backbone="", init=str(tmp_path / "model"), max_frames=2)
    recognize.train(again)
    assert Recogniser.load(tmp_path / "again").frames == 2
    assert "- head transformer" in (tmp_path / "again/card.md").read_text()


def two_ranks(folder: str, output: str) -> None:
    recognize.train(recipe(Path(folder), Path(output), head="xclip", epochs=2, evaluate_every=0))


def test_two_ranks_learn_although_no_loss_reads_the_temperature(folder: Path, tmp_path: Path):
    processes.run(two_ranks, str(folder), str(tmp_path / "two"), ranks=2, log=tmp_path / "two.log")
    assert Recogniser.load(tmp_path / "two").frames == 4


def test_one_damaged_video_is_left_out_and_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = read_labels(folder / "labels.jsonl")
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    bad = replace(rows[0], part=VideoInterval(tmp_path / "bad.mp4"))
    write_labels(tmp_path / "bad.jsonl", [bad, *rows])
    learn = {"visual": "freeze", "cache": str(tmp_path / "cache")}
    files = {name: str(tmp_path / "bad.jsonl") for name in ("data", "eval_data")}
    task = RecognitionTask(recipe(folder, tmp_path, **learn, **files))
    told = capsys.readouterr().err
    assert f"1 of 17 videos cannot be read, such as {tmp_path / 'bad.mp4'}; they are left out" in told
    whole = RecognitionTask(recipe(folder, tmp_path, **learn))
    assert len(task.rows) == len(whole.rows) == 16
    assert torch.equal(task.collate([0, 5])["batch"]["embed"], whole.collate([0, 5])["batch"]["embed"])
    assert torch.equal(task.collate.classes, whole.collate.classes)
    write_labels(tmp_path / "none.jsonl", [bad, replace(bad, labels=("x", "y"))])
    with pytest.raises(DataError, match=r"none of 2 videos can be read, such as .*bad\.mp4"):
        RecognitionTask(recipe(folder, tmp_path, data=str(tmp_path / "none.jsonl"), cache=str(tmp_path / "cache")))


def test_strict_and_other_readers_share_a_cache_and_a_failed_run_leaves_nothing_in_it(folder: Path, tmp_path: Path):
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    good, bad = VideoInterval(folder / "world/order/clips/order-000000.mp4"), VideoInterval(tmp_path / "bad.mp4")
    asked = {"fps": None, "max_frames": 2, "size": 8, "cache": tmp_path / "cache"}
    assert frame_store([good], **asked).key == frame_store([good], **asked, strict=False).key
    kept = {*(tmp_path / "cache").iterdir()}
    made = frame_store([good, bad], **asked, strict=False)
    assert np.isfinite(made.times_s).all(1).tolist() == [True, False] and len([*(tmp_path / "cache").iterdir()]) == 2
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        frame_store([good, bad], **asked)
    assert {*(tmp_path / "cache").iterdir()} == kept


def test_retrieval_starts_from_it_with_its_own_temperature(folder: Path, tmp_path: Path):
    made = RecognitionTask(recipe(folder, tmp_path, head="transformer")).module.recogniser
    made.save(tmp_path / "model", "")
    begun = build_retrieval_model(tiny.recipe(folder, backbone="", init=str(tmp_path / "model"), temperature=0.2))
    assert begun.scale().item() == pytest.approx(5)
    for name, tensor in begun.head.state_dict().items():
        assert torch.equal(tensor, made.model.head.state_dict()[name]), name
    changes = {"backbone": "", "init": str(tmp_path / "model"), "output": str(tmp_path / "found")}
    retrieval.train(tiny.recipe(folder, **changes))
    kept = build_retrieval_model(tiny.recipe(folder, backbone="", init=str(tmp_path / "found"), temperature=0.2))
    assert torch.equal(kept.logit_scale, directory.load(tmp_path / "found").logit_scale)


def test_kinetics_something_and_tables_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("abc_000001_000011.mp4", "42.webm"):
        (tmp_path / name).touch()
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\njuggling balls,abc,1,11,train\nyoga,gone,0,10,train\n"
    )
    found = read_labels(tmp_path / "train.csv")
    assert found == [LabelledVideo(VideoInterval(tmp_path / "abc_000001_000011.mp4"), ("juggling balls",))]
    assert f"1 of 2 videos are not in {tmp_path}; they are left out" in capsys.readouterr().err

    row = {"id": "42", "label": "putting a pen on a book", "template": "Putting [something] on [something]"}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    (only,) = read_labels(tmp_path / "train.json", tmp_path)
    assert only.labels == ("Putting something on something",) and only.part.video.name == "42.webm"

    with (tmp_path / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("video", "label", "start", "end"), ("a.mp4", "open", 1, 2.5), ("b.mp4", "shut", "", "")]
        )
    expected = [
        LabelledVideo(VideoInterval(tmp_path / "a.mp4", 1.0, 2.5), ("open",)),
        LabelledVideo(VideoInterval(tmp_path / "b.mp4"), ("shut",)),
    ]
    assert read_labels(tmp_path / "own.csv") == expected
    write_labels(tmp_path / "own.jsonl", expected)
    assert read_labels(tmp_path / "own.jsonl") == expected


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"video": "a.mp4"}], "row 1: has 'video'; it needs video and label"),
        ([{"video": "a.mp4", "label": []}], r"row 1: label is \[\]; give a text"),
        ([{"video": "a.mp4", "label": ["x", ""]}], r"row 1: label is \['x', ''\]; give a text"),
        ([{"video": "a.mp4", "label": "x", "more": 1}], "a label with a comma in it has to be quoted"),
        ([{"video": "a.mp4", "label": "x", "start": 3, "end": 2}], "row 1: end is 2; it must be above start, 3"),
        ([{"video": "a.mp4", "label": "x", "start": "soon"}], "start is 'soon'"),
        ([{"video": "a.mp4", "label": ["x", "y"]}, {"video": "a.mp4", "label": "x"}], "rows have 1 or 2 labels"),
        ([], "names no video"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, object]], says: str):
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=says):
        read_labels(file)


def test_labels_that_cannot_be_learnt_or_are_not_known_are_refused(folder: Path, tmp_path: Path):
    rows = read_labels(folder / "labels.jsonl")
    write_labels(tmp_path / "same.jsonl", [replace(row, labels=("turn",)) for row in rows])
    with pytest.raises(DataError, match="all rows have the label 'turn'; give two classes or more"):
        RecognitionTask(recipe(folder, tmp_path).changed(data=str(tmp_path / "same.jsonl")))
    write_labels(tmp_path / "new.jsonl", [replace(row, labels=("jump", "jump")) for row in rows])
    with pytest.raises(DataError, match="has the label 'jump', which no training video has"):
        RecognitionTask(recipe(folder, tmp_path).changed(eval_data=str(tmp_path / "new.jsonl")))
    write_labels(tmp_path / "one.jsonl", [replace(row, labels=row.labels[:1]) for row in rows])
    with pytest.raises(DataError, match="has 1 labels, and the training videos have 2"):
        RecognitionTask(recipe(folder, tmp_path).changed(eval_data=str(tmp_path / "one.jsonl")))
    directory.save(build_retrieval_model(tiny.recipe(folder, head="tight")), tmp_path / "tight", "")
    with pytest.raises(ConfigError, match="'tight' makes no embedding of a video's frames alone"):
        RecognitionTask(recipe(folder, tmp_path, backbone="", init=str(tmp_path / "tight")))
    with pytest.raises(ConfigError, match="set batch_size to at most 16"):
        RecognitionTask(recipe(folder, tmp_path, batch_size=17))
    with pytest.raises(ConfigError, match="'tight' makes no embedding of a video's frames alone"):
        recipe(folder, tmp_path, head="tight")
    with pytest.raises(ConfigError, match="no head 'none'"):
        recipe(folder, tmp_path, head="none")
