"""A visual tower for rendered clips: a small ViT on the tokens of a tower that knows what each patch shows.

Shapes: B videos, T frames, P patches per frame, D tower width.
"""

import torch
from torch import nn

from videollm.models.world_tower import TOKEN_PARTS, WorldTower
from videollm.presets import WORLD
from videollm.retrieval.clip import VisionConfig, VisionTransformer

_MOTION = slice(sum(TOKEN_PARTS[:4]), sum(TOKEN_PARTS[:5]))


class WorldVisionTransformer(VisionTransformer):
    """Encodes each frame by itself, from the tokens of a frozen `WorldTower` in place of a linear patch embedding.

    What a token says of motion is left out. So a head can only know it from the order of the frames.
    """

    def __init__(self, config: VisionConfig):
        super().__init__(config)
        sizes = WORLD.temporal.tower
        assert sizes is not None  # the preset has a tower
        self.tower = WorldTower(sizes.width, config.patch, sizes.layers).requires_grad_(False)
        self.embed = nn.Linear(sizes.width, config.width)

    def patches(self, video: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the patch embeddings (B,T,P,D) of pixels (B,T,3,H,W)."""
        with torch.no_grad():  # each frame is a clip of its own, because the tower also looks at neighbours
            tokens = self.tower(video.flatten(0, 1)[:, None])[:, 0]
        tokens[..., _MOTION] = 0
        return self.embed(tokens).unflatten(0, video.shape[:2])
