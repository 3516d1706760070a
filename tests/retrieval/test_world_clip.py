"""The visual tower for rendered clips reads each frame by itself."""

import torch

from videollm.models.world_tower import TOKEN_PARTS
from videollm.retrieval.clip import VisionConfig
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel, TextConfig
from videollm.retrieval.world_clip import WorldVisionTransformer

MOTION = slice(sum(TOKEN_PARTS[:4]), sum(TOKEN_PARTS[:5]))
VISION = VisionConfig(width=24, layers=2, heads=2, mlp_width=48, patch=8, grid=4, embed_dim=16, patches="world")


def test_a_frame_is_encoded_without_its_neighbours():
    torch.manual_seed(0)
    tower = WorldVisionTransformer(VISION).eval()
    video, mask = torch.rand(2, 5, 3, 32, 32), torch.ones(2, 5, dtype=torch.bool)
    together = tower(video, mask, hidden_layers=1)
    alone = tower(video[:, 2:3], mask[:, 2:3], hidden_layers=1)
    torch.testing.assert_close(together.embed[:, 2:3], alone.embed)
    torch.testing.assert_close(together.tokens[:, 2:3], alone.tokens)
    assert together.tokens.shape == (2, 5, 1, 17, 24)


def test_what_the_tower_says_of_motion_changes_nothing():
    torch.manual_seed(0)
    tower = WorldVisionTransformer(VISION).eval()
    video, mask = torch.rand(1, 2, 3, 32, 32), torch.ones(1, 2, dtype=torch.bool)
    before = tower(video, mask).embed
    with torch.no_grad():
        tower.tower.read.bias[MOTION] += 1.0
    torch.testing.assert_close(tower(video, mask).embed, before)
    with torch.no_grad():
        tower.tower.read.bias[MOTION.stop] += 1.0
    assert not torch.allclose(tower(video, mask).embed, before)


def test_the_tower_stays_as_it_is_and_the_rest_learns():
    text = TextConfig(width=16, layers=1, heads=2, mlp_width=32, context=12, embed_dim=16)
    model = RetrievalModel(RetrievalConfig(vision=VISION, text=text, head=HeadConfig(kind="mean")))
    video, mask = torch.rand(2, 3, 3, 32, 32), torch.ones(2, 3, dtype=torch.bool)
    ids = torch.tensor([[1, 5, 9], [1, 7, 9]])
    model(ids, ids > 0, video, mask).square().sum().backward()
    learns = {name for name, parameter in model.visual.named_parameters() if parameter.grad is not None}  # type: ignore[union-attr]
    assert "embed.weight" in learns and not any(name.startswith("tower.") for name in learns)
