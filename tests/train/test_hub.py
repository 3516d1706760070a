"""Tuning of video models of transformers, tiny and random: every way of tuning, two ranks, killed and resumed, merged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scripts.tiny_hub.__main__ import write
from tests.train.rows import sample
from tests.video.clips import write_clip
from train import stage2
from videollm import checkpoint
from videollm.chat.session import ChatSession
from videollm.export import export
from videollm.inference.sampling import GenerationConfig

FAMILIES = ("qwen2_vl", "qwen3_vl", "llava_onevision", "internvl", "smolvlm")
SHORT = GenerationConfig(max_new_tokens=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a second, and eight rows about them, one of a picture and two of text alone."""
    folder = tmp_path_factory.mktemp("hub")
    for number in range(2):
        write_clip(folder / f"{number}.mp4", frames=10 + 5 * number, rate=10, size=(64, 48))
    write_clip(folder / "still.mp4", frames=1, size=(64, 48))
    rows = [
        sample(str(i), "qa", f"What is clip {i % 2}?", f"A gradient of colour {i % 2}.", video=f"{i % 2}.mp4")
        for i in range(4)
    ]
    rows += [
        sample("talk", "conversation", "What moves?", "Colours.", "And then?", "Bits.", video="0.mp4"),
        sample("picture", "qa", "What is it?", "A picture.", video="still.mp4"),
        sample("text", "qa", "What is two and two?", "Four.", video=""),
        sample("text2", "conversation", "Say yes.", "Yes.", "Say no.", "No.", video=""),
    ]
    (folder / "rows.jsonl").write_text("".join(row.to_json() + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def bases(folder: Path) -> Path:
    for family in FAMILIES:
        write(family, folder / family)
    return folder


def arguments(bases: Path, family: str, output: str, *more: str) -> list[str]:
    fixed = ["hub_stage2", "--init", str(bases / family), "--data", str(bases / "rows.jsonl"), "--log-every", "1"]
    fixed += ["--output", str(bases / output), "--batch-size", "4", "--epochs", "2", "--save-every", "2"]
    return [*fixed, "--learning-rate", "0.01", "--frozen-dtype", "float32", *more]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in output.glob("*.safetensors") for name, tensor in load_file(file).items()}


def losses(output: Path) -> list[float]:
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def answer(folder: Path, **options: object) -> str:
    model = checkpoint.load(str(folder), evidence_encoder="debug", **options)  # type: ignore[arg-type]
    model.llm.float()
    return ChatSession(model, folder.parent / "0.mp4").ask("What is clip 0?", SHORT).text


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_trained_asked_and_merged(bases: Path, family: str):
    output, merged = bases / f"{family}-tuned", bases / f"{family}-merged"
    stage2.main(arguments(bases, family, output.name))
    made = losses(output)
    assert len(made) == 4 and made[-1] < made[0]
    changed = [name for name, tensor in weights(output).items() if "lora_B" in name and tensor.any()]
    assert changed and not any("vis" in name or "connector" in name for name in weights(output))
    proof = export(output, merged, "float32")
    assert proof.merging < 1e-5 * proof.largest_logit
    assert answer(output) == answer(merged) == answer(bases / family, adapter=str(output))
    assert "training loss" in (output / "card.md").read_text() and (output / "loss.png").is_file()
