import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import BertConfig, PreTrainedTokenizerFast

from tests.encoders.conftest import VISION, write_model
from videollm import assets
from videollm.config import EncoderConfig
from videollm.encoders.base import Vocabulary
from videollm.encoders.open_clip import OpenClipEncoder
from videollm.errors import AssetError, ConfigError


def frames(count: int, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def test_sizes_come_from_the_model(clip: OpenClipEncoder):
    assert (clip.image_size, clip.tokens_per_frame, clip.token_dim, clip.embed_dim) == (32, 16, 32, 16)
    assert not any(p.requires_grad for p in clip.model.parameters())


@pytest.mark.parametrize(("layer", "block"), [(-1, 2), (-2, 1), (0, 0)])
def test_tokens_are_the_patches_that_leave_the_block(clip_config: EncoderConfig, layer: int, block: int):
    encoder = OpenClipEncoder(EncoderConfig(**{**vars(clip_config), "layer": layer}))
    seen = []
    encoder.model.visual.transformer.resblocks[block].register_forward_hook(lambda *call: seen.append(call[-1]))
    tokens, _ = encoder._frames(frames(2))
    assert torch.equal(tokens, seen[-1][:, 1:])  # without the class token


def test_preprocessing_and_embedding_are_open_clips_own(clip: OpenClipEncoder):
    """PIL resizes 8-bit pixels, so that the two differ by rounding."""
    small = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(small, (60, 80), mode="bicubic").clamp(0, 1).mul(255).byte()
    transform = open_clip.image_transform(32, is_train=False, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    image = transform(Image.fromarray(np.ascontiguousarray(pixels[0].permute(1, 2, 0).numpy())))
    expected = clip.model.encode_image(image[None], normalize=True)
    assert torch.allclose(clip.encode_frames(pixels).embed, expected, atol=0.01)


def test_text_embeddings_are_open_clips_own(clip: OpenClipEncoder):
    texts = ["a dog!", "a very long text about many things that goes on and on and never finds an end at all"]
    made = clip.encode_text(texts)
    expected = clip.model.encode_text(clip.tokenizer(texts), normalize=True)
    assert torch.allclose(made.embed, expected, atol=1e-5)
    assert made.mask.sum(1).tolist() == [5, 16]  # start, a, dog, !, end; the context's length


def test_text_tokens_lie_in_the_shared_space(clip: OpenClipEncoder):
    """CLIP's embedding of a text is its last token's."""
    made = clip.encode_text(["a dog", "a cat on a mat"])
    last = made.tokens[torch.arange(2), made.mask.sum(1) - 1]
    assert torch.allclose(F.normalize(last, dim=-1), made.embed, atol=1e-5)


def test_concepts_are_zero_shot_classification(clip: OpenClipEncoder):
    words = [w for i, w in enumerate(clip.vocabulary.words) if i not in set(clip.vocabulary.parents)]
    made = clip.encode_frames(frames(2))
    texts = clip.model.encode_text(clip.tokenizer([f"a photo of a {word}" for word in words]), normalize=True)
    expected = (clip.model.logit_scale.exp() * made.embed @ texts.T).softmax(-1)
    assert torch.allclose(made.concepts[:, : len(words)], expected, atol=1e-5)


def test_a_vocabulary_of_ones_own(clip_config: EncoderConfig):
    vocabulary = Vocabulary(("running", "sleeping", "activity"), (2, 2, -1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEOLLM_CACHE", str(Path(clip_config.pretrained.removeprefix("local-dir:")) / "cache"))
        concepts = OpenClipEncoder(clip_config, vocabulary=vocabulary).encode_frames(frames(3)).concepts
    assert concepts.shape == (3, 3)
    assert torch.allclose(concepts[:, 2], torch.ones(3))


def test_vocabulary_embeddings_are_kept_for_given_weights(
    clip_config: EncoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path))
    vocabulary = Vocabulary(("running", "sleeping"), (-1, -1))
    pixels = frames(1)
    first = OpenClipEncoder(clip_config, vocabulary=vocabulary).encode_frames(pixels)
    second = OpenClipEncoder(clip_config, vocabulary=vocabulary)
    second.encode_text = None  # type: ignore[assignment]
    assert torch.equal(second.encode_frames(pixels).concepts, first.concepts)
    assert len(list((assets.cache_dir() / "derived").glob("*/embed.safetensors"))) == 1


def test_random_weights_leave_no_trace_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny-random.json").write_text(
        json.dumps({"embed_dim": 16, "vision_cfg": VISION, "text_cfg": {"width": 16, "heads": 1, "layers": 1}})
    )
    open_clip.add_model_config(tmp_path / "tiny-random.json")
    config = EncoderConfig(kind="open_clip", name="tiny-random")
    encoder = OpenClipEncoder(config, vocabulary=Vocabulary(("a", "b"), (-1, -1)))
    assert encoder.encode_frames(frames(1)).concepts.shape == (1, 2)
    assert not assets.cache_dir().exists()


def test_revision_follows_weights_and_layer(clip: OpenClipEncoder, clip_config: EncoderConfig):
    again = OpenClipEncoder(clip_config)
    assert again.revision == clip.revision
    other_layer = OpenClipEncoder(EncoderConfig(**{**vars(clip_config), "layer": -2}))
    assert other_layer.revision != clip.revision


def test_resizing_is_part_of_the_revision(clip: OpenClipEncoder, clip_config: EncoderConfig):
    squashed = OpenClipEncoder(replace(clip_config, resize="nearest"))
    assert squashed.revision != clip.revision
    square, wide = frames(1, 32, 32), frames(1, 32, 64)
    torch.testing.assert_close(squashed.encode_frames(square).tokens, clip.encode_frames(square).tokens)
    assert not torch.allclose(squashed.encode_frames(wide).tokens, clip.encode_frames(wide).tokens, atol=1e-3)


def test_revision_changes_with_one_tensor(tmp_path: Path):
    config = write_model(tmp_path)
    before = OpenClipEncoder(config).revision
    weights = load_file(tmp_path / "open_clip_model.safetensors")
    weights["visual.ln_post.bias"] += 1
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    assert OpenClipEncoder(config).revision != before


def test_bfloat16_weights(clip_config: EncoderConfig, clip: OpenClipEncoder):
    other = OpenClipEncoder(EncoderConfig(**{**vars(clip_config), "dtype": "bfloat16"}))
    pixels = frames(4)
    tokens, embed = other._frames(pixels)
    assert (tokens.dtype, embed.dtype) == (torch.bfloat16, torch.float32)
    assert other.revision == clip.revision
    assert (embed * clip._frames(pixels)[1]).sum(-1).min() > 0.99


def test_the_class_token_comes_first(clip_config: EncoderConfig, clip: OpenClipEncoder):
    encoder = OpenClipEncoder(replace(clip_config, class_token=True))
    seen = []
    encoder.model.visual.transformer.resblocks[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    tokens, _ = encoder._frames(frames(2))
    assert torch.equal(tokens, seen[0])
    assert encoder.tokens_per_frame == clip.tokens_per_frame + 1
    assert encoder.revision != clip.revision


def test_residual_networks_give_their_last_map(tmp_path: Path):
    config = write_model(tmp_path, vision_cfg={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8})
    last, before = (OpenClipEncoder(EncoderConfig(**{**vars(config), "layer": layer})) for layer in (-1, -2))
    assert (last.tokens_per_frame, last.token_dim) == (4, 256)
    assert (before.tokens_per_frame, before.token_dim) == (16, 128)


def test_towers_of_timm(tmp_path: Path):
    vision = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear", "image_size": 160}
    encoder = OpenClipEncoder(write_model(tmp_path, vision_cfg=vision))
    assert encoder.tokens_per_frame == 100
    assert encoder._frames(frames(1))[0].shape == (1, 100, encoder.token_dim)


@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_last_hidden_state_pooler"])
def test_text_towers_of_transformers(tmp_path: Path, pooler: str):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path / "model"
    folder.mkdir()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ).save_pretrained(folder)
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": pooler,
        "context_length": 12,
    }
    model = open_clip.CustomTextCLIP(16, VISION, text)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text}})
    )
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    config = EncoderConfig(kind="open_clip", name="tiny", pretrained=f"local-dir:{folder}", dtype="float32")
    encoder = OpenClipEncoder(config)
    made = encoder.encode_text(["a dog", "a dog a cat a cat"])
    assert made.tokens.shape == (*made.mask.shape, 16)
    assert made.mask.sum(1).diff() == 4
    expected = encoder.model.encode_text(encoder.tokenizer(["a dog"]), normalize=True)
    assert torch.allclose(made.embed[:1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "ViT-B-33"}, r"no architecture 'ViT-B-33'; close are .*ViT-B-32"),
        ({"name": "ViT-B-32", "pretrained": "laion3b"}, r"no weights 'laion3b'; choose one of openai"),
    ],
)
def test_what_open_clip_does_not_know_is_a_config_error(values: dict[str, str], message: str):
    with pytest.raises(ConfigError, match=message):
        OpenClipEncoder(EncoderConfig(kind="open_clip", **values))  # type: ignore[arg-type]


def test_a_layer_that_does_not_exist_is_a_config_error(clip_config: EncoderConfig):
    with pytest.raises(ConfigError, match=r"no layer 7: .*0 to 2"):
        OpenClipEncoder(EncoderConfig(**{**vars(clip_config), "layer": 7}))


def test_a_hub_out_of_reach_names_the_file_and_the_way_round():
    with pytest.raises(AssetError, match=r"timm/vit_base_patch32_clip_224\.openai/ cannot be loaded.*local-dir:FOLDER"):
        OpenClipEncoder(EncoderConfig(kind="open_clip", name="ViT-B-32-quickgelu", pretrained="openai"))


def test_a_folder_without_weights_is_an_asset_error(tmp_path: Path):
    config = write_model(tmp_path, weights=False)
    with pytest.raises(AssetError, match=r"open_clip_model\.safetensors"):
        OpenClipEncoder(config)
    with pytest.raises(AssetError, match=r"open_clip_config\.json"):
        OpenClipEncoder(EncoderConfig(kind="open_clip", pretrained=f"local-dir:{tmp_path / 'none'}"))
