"""What holds for every frame encoder."""

import pytest
import torch

from videollm.config import EncoderConfig
from videollm.encoders.base import FrameEncoder, FrameFeatures
from videollm.encoders.build import build_encoder
from videollm.encoders.debug import DebugEncoder


@pytest.fixture(params=["debug", "lite", "clip"])
def encoder(request: pytest.FixtureRequest) -> FrameEncoder:
    return DebugEncoder() if request.param == "debug" else request.getfixturevalue(request.param)


def frames(count: int, height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def same(a: FrameFeatures, b: FrameFeatures) -> bool:
    return all(
        torch.allclose(x, y, atol=1e-5) for x, y in ((a.tokens, b.tokens), (a.embed, b.embed), (a.concepts, b.concepts))
    )


def test_shapes_and_units(encoder: FrameEncoder):
    made = encoder.encode_frames(frames(3))
    assert made.tokens.shape == (3, encoder.tokens_per_frame, encoder.token_dim)
    assert made.embed.shape == (3, encoder.embed_dim)
    assert made.concepts.shape == (3, len(encoder.vocabulary.words))
    assert torch.allclose(made.embed.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert not made.tokens.requires_grad


def test_concepts_are_a_distribution_summed_up_the_hierarchy(encoder: FrameEncoder):
    concepts, parents = encoder.encode_frames(frames(2)).concepts, encoder.vocabulary.parents
    roots = [i for i, parent in enumerate(parents) if parent < 0]
    assert torch.allclose(concepts[:, roots].sum(1), torch.ones(2), atol=1e-4)
    for word in set(parents) - {-1}:
        children = [i for i, parent in enumerate(parents) if parent == word]
        assert torch.allclose(concepts[:, word], concepts[:, children].sum(1), atol=1e-5)


def test_a_frame_does_not_depend_on_its_neighbours(encoder: FrameEncoder):
    pixels = frames(18)
    together = encoder.encode_frames(pixels)
    assert same(together[16:], encoder.encode_frames(pixels[16:]))
    assert same(together, encoder.encode_frames(pixels))
    assert not torch.allclose(together.embed[0], together.embed[1], atol=1e-4)


def test_only_the_central_square_is_seen(encoder: FrameEncoder):
    wide = frames(1, 64, 128)
    other = wide.clone()
    other[..., :20] = 0
    other[..., -20:] = 255
    size = encoder.image_size
    wide, other = (
        torch.nn.functional.interpolate(x.float(), (size, 2 * size)).round().to(torch.uint8) for x in (wide, other)
    )
    assert same(encoder.encode_frames(wide), encoder.encode_frames(other))


def test_texts(encoder: FrameEncoder):
    texts = ["a dog", "two dogs that run along the beach"]
    made = encoder.encode_text(texts)
    assert made.embed.shape == (2, encoder.embed_dim)
    assert made.tokens.shape == (*made.mask.shape, encoder.embed_dim)
    assert made.mask.dtype == torch.bool
    assert made.mask.sum(1)[0] < made.mask.sum(1)[1] == made.mask.shape[1]
    assert torch.allclose(made.embed.norm(dim=-1), torch.ones(2), atol=1e-5)
    alone = encoder.encode_text(texts[:1])
    length = alone.mask.shape[1]
    assert torch.allclose(alone.embed, made.embed[:1], atol=1e-5)
    assert torch.allclose(alone.tokens[0], made.tokens[0, :length], atol=1e-4)


def test_features_can_be_the_input_of_a_trained_module(encoder: FrameEncoder):
    layer = torch.nn.Linear(encoder.token_dim, 1)
    layer(encoder.encode_frames(frames(1)).tokens).sum().backward()
    assert layer.weight.grad is not None


def test_build_gives_the_kind_asked_for(clip_config: EncoderConfig):
    assert build_encoder(EncoderConfig(kind="debug")).name == "debug"
    assert build_encoder(EncoderConfig()).name == "lite"
    assert build_encoder(clip_config).name == "open_clip/tiny"
