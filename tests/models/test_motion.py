"""The motion stem and the tower of the world."""

import pytest
import torch
import torch.nn.functional as F

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
from videollm.models.motion import WIDTH, MotionStem, StemModule
from videollm.models.temporal import build_temporal
from videollm.models.world_tower import TOKEN_PARTS, WorldTower, correlation
from videollm.presets import PRESETS

D = 6


def frames(t: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, t, n, D), torch.arange(t).repeat(2, 1) / 8, torch.ones(2, t, dtype=torch.bool)


def naive_tubelets(stem: MotionStem, tokens: torch.Tensor) -> torch.Tensor:
    """The first convolution, one tubelet and one moment after the other: (T,N,D) to (M,P,W)."""
    side = int(tokens.shape[1] ** 0.5)
    grid = stem.norm(tokens).unflatten(1, (side, side))
    weight, bias = stem.tubelets.weight, stem.tubelets.bias
    moments = []
    for m in range(-(-len(grid) // 2)):
        places = []
        for y in range(0, side, 2):
            for x in range(0, side, 2):
                total = bias.clone()
                for a, t in enumerate(range(2 * m - 1, 2 * m + 3)):
                    for b in range(2):
                        for c in range(2):
                            if 0 <= t < len(grid) and y + b < side and x + c < side:
                                total = total + weight[:, :, a, b, c] @ grid[t, y + b, x + c]
                places.append(total)
        moments.append(torch.stack(places))
    return torch.stack(moments)


@pytest.mark.parametrize(("t", "n"), [(1, 4), (5, 9), (6, 16)])
def test_a_tubelet_is_four_frames_of_two_by_two_patches(t: int, n: int):
    torch.manual_seed(0)
    stem = MotionStem(D, width=8, dilations=())
    tokens, times, mask = frames(t, n)
    with torch.no_grad():
        made, at, real = stem(tokens, times, mask)
        expected = stem.output_norm(naive_tubelets(stem, tokens[0]))
    torch.testing.assert_close(made[0], expected, atol=1e-5, rtol=1e-5)
    assert real.all() and at[0].tolist() == [float(times[0, k : k + 2].mean()) for k in range(0, t, 2)]


def test_motion_in_opposite_directions_differs_after_the_mean_over_places():
    """A spot that moves to the right or to the left has the same frames; only local mixing tells them apart."""
    torch.manual_seed(0)
    stem = MotionStem(D).eval()
    tokens, times, mask = torch.zeros(1, 8, 64, D), torch.arange(8)[None] / 8, torch.ones(1, 8, dtype=torch.bool)
    for k in range(8):
        tokens[0, k, 24 + k] = torch.arange(D)
    with torch.no_grad():
        forwards, backwards = (stem(x, times, mask)[0].mean((1, 2)) for x in (tokens, tokens.flip(1)))
    assert F.cosine_similarity(forwards, backwards).item() < 0.999


def test_one_word_in_the_config_puts_the_stem_before_any_kind():
    for kind in ("qformer", "pool", "concat", "merge"):
        module = build_temporal(TemporalConfig(kind=kind, queries=5, width=24, heads=2, stem="motion"), D, 12, 16)
        assert isinstance(module, StemModule) and module.stem.tubelets.out_channels == WIDTH
        assert module(*frames(7, 16)).shape == (2, 5, 12)
    with_stem = {name for name, preset in PRESETS.items() if preset.temporal.stem != "none"}
    assert with_stem == {"world", "world-sound"}


def test_a_grid_that_is_no_square_is_refused():
    module = build_temporal(TemporalConfig(kind="concat", stem="motion"), D, 12)
    with pytest.raises(ConfigError, match="17 tokens each, which form no square"):
        module(*frames(4, 17))


def test_the_tower_sees_a_displacement_only_between_frames():
    """A textured frame that is shifted by 2 pixels matches itself at that displacement, and a still one at none."""
    torch.manual_seed(0)
    texture = F.avg_pool2d(torch.randn(1, 3, 72, 72), 3, 1)
    still, moved = texture[..., 3:67, 3:67], texture[..., 3:67, 1:65]
    for after, column in ((still, 3), (moved, 4)):
        matches = correlation(still, after, 8).unflatten(-1, (7, 7))
        middle = matches[0].unflatten(0, (8, 8))[2:6, 2:6].mean((0, 1))
        assert divmod(int(middle.argmax()), 7) == (3, column)
    torch.testing.assert_close(matches.sum((-1, -2)), torch.ones(1, 64))


def test_a_token_of_the_world_is_a_statement_about_its_patch():
    torch.manual_seed(0)
    tower = WorldTower(width=96, patch=8, layers=1).eval()
    video = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        tokens = tower(video)
        alone = tower(video[:1])
    shape, colour, *_ = tokens[..., : sum(TOKEN_PARTS)].split(TOKEN_PARTS, -1)
    assert tokens.shape == (2, 4, 64, 96)
    for probabilities in (shape, colour):
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 4, 64))
    torch.testing.assert_close(alone, tokens[:1], atol=1e-5, rtol=1e-5)
