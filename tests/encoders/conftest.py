"""Encoders that several tests use. `lite` has its real weights: they are fetched when they are not cached."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from videollm.config import EncoderConfig
from videollm.encoders.lite import LiteEncoder
from videollm.encoders.open_clip import OpenClipEncoder

VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}


def write_model(folder: Path, weights: bool = True, **changes: Any) -> EncoderConfig:
    """A folder as `local-dir:` wants it: a small CLIP with random weights."""
    model = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, **changes}
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}})
    )
    if weights:
        torch.manual_seed(0)
        made = open_clip.create_model(f"local-dir:{folder}")
        save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / "open_clip_model.safetensors")
    return EncoderConfig(kind="open_clip", name="tiny", pretrained=f"local-dir:{folder}", dtype="float32")


@pytest.fixture(scope="session")
def lite() -> LiteEncoder:
    return LiteEncoder(EncoderConfig(dtype="float32"))


@pytest.fixture(scope="session")
def clip_config(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    return write_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def clip(clip_config: EncoderConfig, tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEOLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        encoder = OpenClipEncoder(clip_config)
        encoder._class_text  # noqa: B018  (computed once, into this cache)
        return encoder
