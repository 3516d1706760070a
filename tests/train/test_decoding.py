"""Any-to-any at toy size: encoding alignment, decoding alignment, instruction tuning, and files beside an answer."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from scripts import tiny_pipeline
from tests.train.rows import CAPTIONS, SAMPLE, sample, write_rows
from train import decoding, stage1, stage2
from train.configs.decoding import DECODING
from train.configs.stage2 import CHECKPOINT_STAGE2
from train.data.conditions import ConditionCollator, text_encoders
from train.tasks.decoding import DecodingTask
from train.tasks.video_llm import starting_model, trained_checkpoint
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.cli import main
from videollm.decoders.media import GENERATED
from videollm.errors import ConfigError
from videollm.models.processor import IGNORE, Message
from videollm.output_config import MODALITIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines, rows and the checkpoint of stage 1."""
    made = tmp_path_factory.mktemp("decoding")
    for modality in MODALITIES:
        tiny_pipeline.write(modality, made / modality)
    write_rows(made / "rows.jsonl")
    stage1.main(["debug_stage1", "--output", str(made / "stage1")])
    return made


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    fixed = ["debug_decoding", "--init", str(folder / "stage1"), "--data", str(folder / "rows.jsonl")]
    for modality in ("image", "audio"):
        fixed += [f"--{modality}-decoder", str(folder / modality)]
    fixed += ["--output", str(folder / output), "--batch-size", "4", "--epochs", "20", "--save-every", "40"]
    return [*fixed, *more]


@pytest.fixture(scope="module")
def aligned(folder: Path) -> Path:
    decoding.main(arguments(folder, "aligned"))
    return folder / "aligned"


def losses(model: Model, texts: Iterable[str] = [text for *_, text in CAPTIONS]) -> tuple[float, float]:
    """Those of the signal tokens and of the conditions, where captions are shown as pictures."""
    collate = ConditionCollator(model.processor, text_encoders(model.config.outputs))
    prompts = [
        model.processor([Message("user", text), Message("assistant", f"{text} <image>{text}</image>")])
        for text in texts
    ]
    with torch.inference_mode():
        batch = collate(prompts)
        batch["labels"][batch["labels"] < model.processor.first_signal] = IGNORE
        found = model.llm.eval()(**batch)
    return float(found.text_loss), float(found.alignment_loss)


def test_only_outputs_learn_and_both_losses_fall(folder: Path, aligned: Path):
    before = DecodingTask(DECODING["debug_decoding"].changed(**recipe_of(folder))).model
    after = checkpoint.load(str(aligned))
    assert after.config.outputs.modalities == ("image", "audio")
    assert after.config.outputs.embeddings[0::2] == (16, 1) and after.config.outputs.widths[0::2] == (16, 12)
    stage_1 = load_file(folder / "stage1/projector.safetensors")
    state = load_file(aligned / "projector.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in stage_1.items())
    assert state.keys() - stage_1.keys() == {n for n in before.llm.state_dict() if n.startswith("outputs.")}
    (text, distance), (text_after, distance_after) = losses(before), losses(after)
    assert text_after < 0.5 * text and distance_after < 0.5 * distance


def recipe_of(folder: Path) -> dict[str, str]:
    values = {"init": str(folder / "stage1"), "data": str(folder / "rows.jsonl")}
    return values | {f"{modality}_decoder": str(folder / modality) for modality in ("image", "audio")}


def test_a_run_that_was_stopped_ends_with_the_same_weights(folder: Path, aligned: Path):
    shutil.copytree(aligned / "checkpoint-40", folder / "again/checkpoint-40")
    decoding.main(arguments(folder, "again", "--resume", "last"))
    whole, again = (load_file(path / "projector.safetensors") for path in (aligned, folder / "again"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_tuned_model_answers_with_files(folder: Path, aligned: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        sample("purr", "qa", "Let me hear a cat.", "Listen. <audio>a cat purrs</audio>", video=""),
        sample("cat", "qa", "Show me the start.", "Here. <image>a tabby cat</image>", end=4.0),
    ]
    data, tuned = folder / "shown.jsonl", folder / "tuned"
    data.write_text("".join(row.to_json() + "\n" for row in rows))
    words = ["checkpoint_stage2", "--init", str(aligned), "--tune", "adapter", "--lora-r", "16", "--data", str(data)]
    words += ["--features", str(folder / "features")]
    words += ["--output", str(tuned), "--batch-size", "2", "--epochs", "300", "--learning-rate", "5e-3"]
    stage2.main(words)
    capsys.readouterr()

    # The toy language model is random and frozen, so that it does not learn where an answer ends.
    said = [
        "--model",
        str(tuned),
        "--max-new-tokens",
        "8",
        "--media-out",
        str(folder / "media"),
        "--steps",
        "1",
        "--seed",
        "0",
    ]
    assert main(["ask", str(SAMPLE), "Show me the start.", "--end", "4", *said, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == "Here."
    (file,) = answer["media"]
    assert file["modality"] == "image"
    with Image.open(file["path"]) as image:
        assert GENERATED in image.info["XML:com.adobe.xmp"]
    assert main(["ask", str(SAMPLE), "Show me the start.", "--end", "4", *said]) == 0
    assert f"image: {folder / 'media/0002-image.png'}\n" in capsys.readouterr().out
    assert main(["ask", str(SAMPLE), "Show it.", *said, "--video-decoder", "x"]) == 2
    assert "shows no video" in capsys.readouterr().err


def test_what_cannot_be_trained_is_refused(folder: Path, aligned: Path):
    with pytest.raises(ConfigError, match="has its own decoders"):
        DecodingTask(DECODING["debug_decoding"].changed(**recipe_of(folder) | {"init": str(aligned)}))
    with pytest.raises(ConfigError, match="no decoder"):
        DecodingTask(DECODING["debug_decoding"].changed(init=str(folder / "stage1"), data=str(folder / "rows.jsonl")))
    with pytest.raises(ConfigError, match="tune adapter or projector"):
        starting_model(CHECKPOINT_STAGE2.changed(init=str(aligned), tune="full"))
    with pytest.raises(ConfigError, match="tune adapter or projector"):
        trained_checkpoint(aligned)
