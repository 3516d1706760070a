"""Features kept on disk and features made while training: equal batches and losses, and their size on disk."""

import re
from pathlib import Path

import pytest
import torch

from tests.train.rows import SAMPLE, sample, write_rows
from train import stage1, stage2
from train.configs.stage1 import DEBUG_STAGE1
from train.configs.stage2 import DEBUG_STAGE2
from train.core.trainer import TaskTrainer
from train.data.features import VideoFeatures, expected_frames
from train.data.rows import InstructionRows
from train.tasks.alignment import AlignmentTask
from train.tasks.instruction import InstructionTask
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import SamplingConfig
from videollm.datasets.schema import Sample
from videollm.errors import DataError
from videollm.features.encode import encode_video
from videollm.features.stored import StoredDtype
from videollm.presets import DEBUG
from videollm.video.decoding import probe


@pytest.fixture(scope="module")
def model() -> Model:
    return checkpoint.build(DEBUG)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def losses(task: AlignmentTask | InstructionTask) -> list[float]:
    trainer = TaskTrainer(task)
    trainer.train()
    return [h["loss"] for h in trainer.state.log_history if "loss" in h]


@pytest.mark.parametrize("stage", [1, 2])
def test_encoding_while_training_gives_the_losses_of_kept_features(tmp_path: Path, rows: Path, stage: int):
    made = []
    for where in (str(tmp_path / "features"), "none"):
        changes = {"data": str(rows), "features": where, "feature_dtype": "float32", "batch_size": 3, "epochs": 2}
        changes |= {"output": str(tmp_path / f"{stage}-{len(made)}"), "log_every": 1, "save_every": 100}
        torch.manual_seed(0)  # stage 1's heads start at random
        if stage == 1:
            made.append(losses(AlignmentTask(DEBUG_STAGE1.changed(**changes, itc=1.0, itm=1.0))))
        else:
            made.append(losses(InstructionTask(DEBUG_STAGE2.changed(**changes, init="", conversation_tokens=900))))
    assert made[0] == made[1] and len(made[0]) in (4, 8)


def test_encoding_while_training_writes_no_features(tmp_path: Path, rows: Path):
    output = tmp_path / "out"
    stage1.main(
        ["debug_stage1", "--data", str(rows), "--batch-size", "3", "--features", "none", "--output", str(output)]
    )
    assert (output / "projector.safetensors").is_file() and not (output / "features").exists()
    assert not list(tmp_path.rglob("*.bin"))
    arguments = ["--init", str(output), "--features", "none", "--conversation-tokens", "900"]
    stage2.main(["debug_stage2", "--data", str(rows), "--output", str(tmp_path / "two"), *arguments])
    assert checkpoint.load(str(tmp_path / "two")).config.name == "debug"


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.0), ("float16", 1e-3), ("float8", 0.03)])
def test_a_video_comes_back_within_the_error_of_its_format(
    tmp_path: Path, model: Model, rows: Path, dtype: StoredDtype, bound: float
):
    features = VideoFeatures.at(str(tmp_path), model.encoder, model.config, dtype)
    features.prepare(InstructionRows([str(rows)]), 0)
    exact = encode_video(SAMPLE, model.encoder, model.config.sampling).features
    kept = features.video(sample("whole", "qa", "a", "b")).features
    assert (kept.tokens.float() - exact.tokens).norm() <= bound * exact.tokens.norm()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float8"])
def test_the_size_is_stated_before_it_is_written(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str], dtype: StoredDtype
):
    file = tmp_path / "rows.jsonl"
    file.write_text(sample("whole", "qa", "a", "b").to_json() + "\n")
    read = InstructionRows([str(file)])
    features = VideoFeatures.at(str(tmp_path / "features"), model.encoder, model.config, dtype)
    features.prepare(read, 0)
    said = re.search(r"features of 1 videos take about (\S+) GB", capsys.readouterr().err)
    assert said is not None
    (written,) = (tmp_path / "features").glob("*.bin")
    assert float(said[1]) * 1e9 == pytest.approx(written.stat().st_size, rel=0.1)
    features.prepare(read, 0)
    assert "take about" not in capsys.readouterr().err  # nothing is left to write


def test_a_bad_video_is_named_before_training_also_without_shards(tmp_path: Path, model: Model):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    file = tmp_path / "rows.jsonl"
    file.write_text(sample("bad", "qa", "a", "b", video="broken.mp4").to_json() + "\n")
    features = VideoFeatures.at("none", model.encoder, model.config)
    with pytest.raises(DataError, match=r"row bad: .*broken\.mp4"):
        features.prepare(InstructionRows([str(file)]), 0)


def test_expected_frames_are_about_those_that_are_sampled():
    info = probe(SAMPLE)
    for sampling, frames in (
        (SamplingConfig(frames=6), 6),
        (SamplingConfig(times_s=(1.0, 2.0)), 2),
        (SamplingConfig(fps=2.0, max_frames=5), 5),
        (SamplingConfig(fps=2.0), 24),
        (SamplingConfig(fps=2.0, start_s=4.0, end_s=8.0), 8),
    ):
        assert expected_frames(info, sampling) == pytest.approx(frames, abs=1)


def test_a_row_is_parsed_once(tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, model: Model):
    parsed, parse = [], Sample.from_json
    monkeypatch.setattr(Sample, "from_json", lambda line: parsed.append(line) or parse(line))
    changes = {"data": str(rows), "features": str(tmp_path / "features"), "batches": "length", "epochs": 2}
    output = {"output": str(tmp_path / "out"), "init": "", "conversation_tokens": 900, "batch_size": 4}
    losses(InstructionTask(DEBUG_STAGE2.changed(**changes, **output)))
    assert len(parsed) == len(rows.read_text().splitlines())
