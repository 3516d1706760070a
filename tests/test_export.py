"""An exported checkpoint computes what the checkpoint computes, and is an ordinary language model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from videollm import ChatSession, checkpoint
from videollm.checkpoint import Model
from videollm.cli import main
from videollm.config import LanguageModelConfig, LoraConfig
from videollm.errors import CheckpointError
from videollm.export import export
from videollm.inference.sampling import GenerationConfig
from videollm.presets import DEBUG

SAMPLE = Path(__file__).parents[1] / "scripts/samples/sample.mp4"


def trained(llm: LanguageModelConfig) -> Model:
    """As after training: an adapter that does something."""
    model = checkpoint.build(replace(DEBUG, llm=replace(llm, lora=LoraConfig(r=4))))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.llm.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(trained(DEBUG.llm), tmp_path / "trained", card="# card")
    return tmp_path / "trained"


def text(directory: Path) -> str:
    return ChatSession(checkpoint.load(str(directory)), SAMPLE).ask("What?", GenerationConfig(max_new_tokens=24)).text


def test_the_export_answers_as_the_checkpoint_does(saved: Path, tmp_path: Path):
    proof = export(saved, tmp_path / "out", "float32")
    assert proof.merging == proof.rounding < 1e-5 < proof.largest_logit
    assert text(tmp_path / "out") == text(saved)
    assert (tmp_path / "out/card.md").read_text() == "# card" and not (tmp_path / "out/adapter").exists()


def test_the_language_model_loads_by_itself(saved: Path, tmp_path: Path):
    proof = export(saved, tmp_path / "out")
    assert 0 < proof.rounding < 0.15 * proof.largest_logit
    folder = tmp_path / "out/language_model"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    ours = checkpoint.load(str(saved)).llm.language_model
    assert plain.dtype == torch.bfloat16
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor.float(), ours.state_dict()[name], atol=0, rtol=0.01)
    messages = [{"role": "user", "content": "Hi"}]
    assert "Hi" in AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)


def test_a_4bit_base_is_dequantised_as_it_was_trained(tmp_path: Path):
    tiny = checkpoint.build(DEBUG)
    tiny.llm.language_model.save_pretrained(tmp_path / "base")
    tiny.processor.tokenizer.save_pretrained(tmp_path / "base")
    quantised = LanguageModelConfig(source=str(tmp_path / "base"), dtype="float32", load_in_4bit=True)
    checkpoint.save(trained(quantised), tmp_path / "trained")
    proof = export(tmp_path / "trained", tmp_path / "out", "float32")
    assert proof.merging < 1e-4 * proof.largest_logit
    ids = torch.arange(40)[None]
    was, now = (checkpoint.load(str(tmp_path / d)).llm.language_model(ids).logits for d in ("trained", "out"))
    assert (was - now).abs().max() < 0.02 * was.abs().max()  # the 4-bit kernel rounds its inputs


def test_a_language_model_of_the_checkpoints_own_is_written_in_the_new_format(saved: Path, tmp_path: Path):
    export(saved, tmp_path / "own", "float32")  # what full fine-tuning leaves, too
    proof = export(tmp_path / "own", tmp_path / "half")
    assert proof.merging == 0 < proof.rounding < 0.15 * proof.largest_logit
    was, now = (checkpoint.load(str(tmp_path / d)).llm for d in ("own", "half"))
    assert now.language_model.dtype == torch.bfloat16
    for name, tensor in now.language_model.state_dict().items():
        assert torch.equal(tensor, was.language_model.state_dict()[name].bfloat16())
    assert torch.equal(now.visual_norm.weight, was.visual_norm.weight)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    export(saved, tmp_path / "out")
    with pytest.raises(CheckpointError, match="not empty"):
        export(saved, tmp_path / "out")
    assert main(["export", "debug", "--out", str(tmp_path / "again")]) == 2
    assert "no trained weights" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_merge_that_loses_the_adapter_is_found(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(CheckpointError, match="nothing was written"):
        export(saved, tmp_path / "out")
    assert not (tmp_path / "out").exists()
