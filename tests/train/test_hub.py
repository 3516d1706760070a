"""Tuning of video models of transformers, tiny and random: every way of tuning, two ranks, resuming, merging."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText

from scripts.tiny_hub.__main__ import write
from tests.precision import in_float32
from tests.train import processes
from tests.train.rows import sample
from tests.video.clips import write_clip
from train import stage2
from train.configs.stage2 import HUB_STAGE2
from train.tasks.hub import starting_hub_model
from videollm import checkpoint
from videollm.chat.session import ChatSession
from videollm.datasets.schema import Message
from videollm.errors import CheckpointError, ConfigError
from videollm.export import export
from videollm.inference.sampling import GenerationConfig
from videollm.models.hub.prompt import HubPrompt

FAMILIES = ("qwen2_vl", "qwen3_vl", "llava_onevision", "internvl", "smolvlm")
IN_SUITE = (("qwen3_vl", 3), ("smolvlm", 2))  # of the runs of two ranks, of which each takes half a minute
SHORT = GenerationConfig(max_new_tokens=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products of these sizes take longer on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    with in_float32():
        model = checkpoint.load(str(folder), evidence_encoder="debug", **options)  # type: ignore[arg-type]
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


def test_an_ia3_is_trained_and_merged(bases: Path):
    stage2.main(arguments(bases, "qwen2_vl", "ia3", "--adapter", "ia3", "--lora-r", "0", "--learning-rate", "0.3"))
    first, second, third, fourth = losses(bases / "ia3")  # of two epochs
    assert third + fourth < first + second
    named = {name.rpartition(".ia3_l")[0].rpartition(".")[2] for name in weights(bases / "ia3")}
    assert named == {"k_proj", "v_proj", "down_proj"} and not any("vis" in name for name in weights(bases / "ia3"))
    proof = export(bases / "ia3", bases / "ia3-merged", "float32")
    assert proof.merging < 1e-5 * proof.largest_logit
    assert answer(bases / "ia3") == answer(bases / "ia3-merged")


@pytest.mark.parametrize(
    ("family", "stage"),
    [
        pytest.param(family, stage, marks=() if (family, stage) in IN_SUITE else pytest.mark.families)
        for family in FAMILIES
        for stage in (2, 3)
    ],
)
def test_two_ranks_of_zero_end_as_one_process_and_resume_exactly(bases: Path, family: str, stage: int):
    """Rows with videos, a picture and text alone meet in one step. ZeRO-2 trains an adapter, ZeRO-3 all weights."""
    more = ["--gradient-checkpointing", "true"]
    more += ["--learning-rate", "0.001", "--tune", "full" if stage == 3 else "adapter"]
    one, two, again, merged = (f"{family}-{stage}-{name}" for name in ("one", "two", "again", "merged"))
    zero = [*more, "--zero-stage", str(stage)]
    stage2.main(arguments(bases, family, one, *more))
    processes.run(stage2.main, arguments(bases, family, two, *zero), ranks=2, log=bases / "two.log")
    assert losses(bases / two) == pytest.approx(losses(bases / one), rel=0.02)
    alone, both = weights(bases / one), weights(bases / two)
    assert alone.keys() == both.keys() and all(torch.allclose(alone[k], both[k], atol=0.01) for k in alone)

    shutil.copytree(bases / two / "checkpoint-2", bases / again / "checkpoint-2")
    rest = arguments(bases, family, again, *zero, "--resume", "last")
    processes.run(stage2.main, rest, ranks=2, log=bases / "two.log")
    assert losses(bases / again) == losses(bases / two)
    assert all(torch.equal(tensor, both[name]) for name, tensor in weights(bases / again).items())
    told = answer(bases / again)
    if stage == 2:
        proof = export(bases / again, bases / merged, "float32")
        assert proof.merging < 1e-5 * proof.largest_logit and answer(bases / merged) == told


def test_a_run_of_one_process_resumes_exactly_and_an_adapter_is_trained_further(bases: Path):
    stage2.main(arguments(bases, "qwen2_vl", "whole"))
    shutil.copytree(bases / "whole" / "checkpoint-2", bases / "rest" / "checkpoint-2")
    stage2.main(arguments(bases, "qwen2_vl", "rest", "--resume", "last"))
    whole, rest = weights(bases / "whole"), weights(bases / "rest")
    assert losses(bases / "whole") == losses(bases / "rest")
    assert all(torch.equal(tensor, rest[name]) for name, tensor in whole.items())

    stage2.main(
        [*arguments(bases, "whole", "further"), "--eval-data", str(bases / "rows.jsonl"), "--evaluate-rows", "1"]
    )
    assert losses(bases / "further")[0] < losses(bases / "whole")[0] - 0.1
    assert not torch.equal(*(weights(bases / name)[next(iter(whole))] for name in ("further", "whole")))
    card = (bases / "further" / "card.md").read_text()
    assert "eval_accuracy" in card and "eval_loss" in card


def test_only_the_projector_changes(bases: Path):
    stage2.main(arguments(bases, "llava_onevision", "projector", "--tune", "projector"))
    before, after = weights(bases / "llava_onevision"), weights(bases / "projector")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("multi_modal_projector" in name for name in changed)
    assert isinstance(answer(bases / "projector"), str)


def test_four_bit_weights_get_an_adapter(bases: Path):
    """On a CPU bitsandbytes multiplies only weights whose sizes are multiples of 64, so this model is larger."""
    pytest.importorskip("bitsandbytes")
    shutil.copytree(bases / "qwen3_vl", bases / "larger")
    config = AutoConfig.from_pretrained(bases / "larger")
    config.text_config.update({"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8})
    config.vision_config.update({"hidden_size": 64, "out_hidden_size": 64})
    AutoModelForImageTextToText.from_config(config).save_pretrained(bases / "larger")
    stage2.main(arguments(bases, "larger", "qlora", "--load-in-4bit", "true"))
    assert losses(bases / "qlora")[-1] < losses(bases / "qlora")[0]
    model = checkpoint.load(str(bases / "qlora"), evidence_encoder="debug", load_in_4bit=True)
    assert ChatSession(model, bases / "0.mp4").ask("What is it?", SHORT).receipt.visual_tokens > 0


def test_a_blank_picture_behind_a_prompt_changes_no_logit(bases: Path):
    for family in FAMILIES:
        model = checkpoint.load(str(bases / family), evidence_encoder="debug")
        model.llm.float()
        talk = [Message("user", "What is two and two?"), Message("assistant", "Four.")]
        plain, shown = model.processor(talk), model.processor(talk)
        model.processor.add_blank_picture(shown)  # type: ignore[attr-defined]
        assert isinstance(shown, HubPrompt) and shown.visual_tokens > 0
        logits = [model.llm.labelled_logits([prompt]) for prompt in (plain, shown)]  # type: ignore[union-attr]
        torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_tuned_is_said(bases: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="lite, which is not a video model of transformers"):
        starting_hub_model(HUB_STAGE2.changed(init="lite"))
    for change, message in (
        ({"lora_r": 0}, "lora_r is 0"),
        ({"data": ""}, "data is empty"),
        ({"load_in_4bit": True, "tune": "projector"}, "4-bit weights cannot be trained"),
    ):
        with pytest.raises(ConfigError, match=message):
            HUB_STAGE2.changed(**change)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "lite"}')
    with pytest.raises(CheckpointError, match="an adapter for lite, which is not a video model"):
        checkpoint.load(str(tmp_path))
