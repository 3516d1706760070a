"""Python code that lies beside a model's files never runs, even where standard input would answer "yes"."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.encoders.conftest import VISION
from videollm.chat.plan import _skeleton
from videollm.config import EncoderConfig, LanguageModelConfig
from videollm.encoders.open_clip import OpenClipEncoder
from videollm.errors import AssetError, CheckpointError
from videollm.models.language import load_language_model, load_tokenizer
from videollm.official.video_chatgpt import import_video_chatgpt
from videollm.presets import DEBUG

CODE = """
from pathlib import Path
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizer

Path({mark!r}).touch()


class Config(PreTrainedConfig):
    model_type = "unheard-of"


class Model(PreTrainedModel):
    config_class = Config


class Tokenizer(PreTrainedTokenizer):
    pass
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that the model's code makes when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def folder(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    auto = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard-of", "auto_map": auto}))
    tokenizer = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize(
    "load",
    [load_tokenizer, load_language_model, lambda config: _skeleton(replace(DEBUG, llm=config))],
    ids=["tokenizer", "model", "plan"],
)
def test_a_language_model_with_code_is_refused(load: Callable[..., object], folder: Path, mark: Path):
    with pytest.raises(CheckpointError, match=r"auto_map.*never run"):
        load(LanguageModelConfig(source=str(folder)))
    assert not mark.exists()


def test_so_is_the_language_model_of_an_import(folder: Path, mark: Path, tmp_path: Path):
    state = {"model.mm_projector.weight": torch.zeros(1), "model.mm_projector.bias": torch.zeros(1)}
    torch.save(state | {"model.embed_tokens.weight": torch.zeros(1)}, tmp_path / "chat.bin")
    with pytest.raises(CheckpointError, match=r"auto_map.*never run"):
        import_video_chatgpt(tmp_path / "chat.bin", folder, tmp_path / "out", EncoderConfig(kind="debug"))
    assert not mark.exists()


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
def test_so_is_a_text_tower_of_open_clip(options: dict[str, bool], folder: Path, mark: Path):
    """Its file may even say that the code is to be trusted."""
    text = {"context_length": 16, "vocab_size": 99, "width": 24, "heads": 2, "layers": 2}
    text |= {"hf_tokenizer_name": "x", "tokenizer_kwargs": options}
    model = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    made = open_clip.create_model(f"local-dir:{folder}", require_pretrained=False)
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / "open_clip_model.safetensors")
    with pytest.raises(AssetError, match="code"):
        OpenClipEncoder(EncoderConfig(kind="open_clip", name="tiny", pretrained=f"local-dir:{folder}"))
    assert not mark.exists()
