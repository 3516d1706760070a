"""Towers in the form in which people have them, against transformers' own computation on tiny random weights."""

from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import AutoModel

from tests.encoders.conftest import TEXT, VISION, write_model
from videollm import checkpoint
from videollm.config import EncoderConfig
from videollm.encoders.base import Vocabulary
from videollm.encoders.open_clip import OpenClipEncoder
from videollm.errors import AssetError, CheckpointError, ConfigError
from videollm.model import config_of
from videollm.models.language import debug_tokenizer

WORDS = Vocabulary(("dog", "cat"), (-1, -1))
TEXTS = ["a dog", "a longer text about a cat"]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
PIXELS = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEOLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(kind: str, folder: Path) -> Path:
    base = debug_tokenizer()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base.backend_tokenizer, eos_token=base.eos_token, pad_token=base.eos_token
    )
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "eos_token_id": tokenizer.eos_token_id}
    vision, size = TOWER | {"image_size": 32, "patch_size": 8}, {"height": 32, "width": 32}
    name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    more = {"projection_dim": 16} if kind == "clip" else {}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images = {"size": {"shortest_edge": 32}, "crop_size": size} if kind == "clip" else {"size": size}
    getattr(transformers, f"{name}ImageProcessor")(**images).save_pretrained(folder)
    return folder


def encoder_of(folder: Path, **changes: object) -> OpenClipEncoder:
    config = EncoderConfig(kind="open_clip", name="tiny", pretrained=f"local-dir:{folder}", dtype="float32", **changes)  # type: ignore[arg-type]
    return OpenClipEncoder(config, vocabulary=WORDS)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp(request.param))


def test_both_towers_are_those_of_transformers(folder: Path):
    encoder = encoder_of(folder, layer=-2)
    model = AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = processor(images=list(PIXELS), input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", max_length=40, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model(input_ids=ids, pixel_values=images)
        hidden = model.vision_model(pixel_values=images, output_hidden_states=True).hidden_states[-2]
    made, said = encoder.encode_frames(PIXELS), encoder.encode_text(TEXTS)
    assert torch.allclose(made.embed, F.normalize(out.image_embeds, dim=-1), atol=2e-5)
    assert torch.allclose(said.embed, F.normalize(out.text_embeds, dim=-1), atol=2e-5)
    is_clip = model.config.model_type == "clip"
    if is_clip:
        whole = encoder_of(folder, layer=-2, class_token=True).encode_frames(PIXELS).tokens
        assert torch.allclose(whole, hidden, atol=2e-5)
    else:
        with pytest.raises(ConfigError, match="has no class token"):
            encoder_of(folder, class_token=True)
    patches = hidden[:, 1:] if is_clip else hidden
    assert torch.allclose(made.tokens, patches, atol=2e-5)
    assert made.tokens.shape == (2, 16, 32) and made.concepts.shape == (2, 2)
    assert encoder.reads_whole(TEXTS[0]) and not encoder.reads_whole("dog " * 40)


def test_the_directory_is_a_model_for_search_and_not_for_answers(folder: Path):
    assert config_of(str(folder)).encoder.pretrained == f"local-dir:{folder}"
    with pytest.raises(CheckpointError, match="does not answer; give it to videollm index"):
        checkpoint.load(str(folder))


def test_weights_of_pytorch_are_read_without_pickles_and_must_be_whole(folder: Path, tmp_path: Path):
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    state = AutoModel.from_pretrained(folder).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert torch.equal(encoder_of(tmp_path).encode_frames(PIXELS).embed, encoder_of(folder).encode_frames(PIXELS).embed)
    state.pop("logit_scale")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(AssetError, match="1 tensors are missing, the first is logit_scale"):
        encoder_of(tmp_path)
    torch.save({"a": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(AssetError, match="cannot be loaded"):
        encoder_of(tmp_path)


def test_a_state_dict_of_an_architecture_of_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = write_model(tmp_path / "tiny")
    whole = OpenClipEncoder(config, vocabulary=WORDS)
    architecture = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-vit", architecture)
    torch.save(whole.model.state_dict(), tmp_path / "tiny.pt")
    own = EncoderConfig(kind="open_clip", name="tiny-vit", pretrained=str(tmp_path / "tiny.pt"), dtype="float32")
    made = OpenClipEncoder(own, vocabulary=WORDS)
    assert made.revision == whole.revision
    torch.save({"a": Path("x")}, tmp_path / "tiny.pt")
    with pytest.raises(AssetError, match="cannot be loaded"):
        OpenClipEncoder(own, vocabulary=WORDS)
