"""A temporal module with a visual tower of its own, whose weights are in the checkpoint.

Shapes: B segments, T frames, S the side of a frame in pixels, N tokens per frame, D tower width, Q query tokens, H
language-model width.
"""

import torch
from torch import nn

from videollm.config import TowerConfig
from videollm.models.published.pixels import normalise
from videollm.models.published.transformer import BlockConfig, EvaViT
from videollm.models.published.umt import UmtEncoder
from videollm.models.temporal_base import TemporalModule
from videollm.models.world_tower import WorldTower


class Eva(EvaViT):
    """EVA ViT on videos: each frame's class token and patches."""

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B,T,3,S,S) to (B,T,N,D)."""
        return super().forward(video.flatten(0, 1)).unflatten(0, video.shape[:2])


def build_tower(config: TowerConfig) -> nn.Module:
    """Returns a tower with random weights, from normalised pixels (B,T,3,S,S) to (B,T,N,D)."""
    if config.kind == "world":
        return WorldTower(config.width, config.patch, config.layers)
    blocks = BlockConfig(
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        mlp_width=config.mlp_width,
        qkv_bias="query_value",
    )
    if config.kind == "eva":
        return Eva(blocks, config.patch, (config.image_size // config.patch) ** 2)
    return UmtEncoder(blocks, config.patch, config.image_size, config.frames)


def tower_tokens(config: TowerConfig) -> int:
    """Returns N, the number of tokens that the tower gives of a frame."""
    return (config.image_size // config.patch) ** 2 + (config.kind == "eva")


class TowerModule(TemporalModule):
    """A tower, and the module that reads its tokens instead of an encoder's.

    The tower is frozen, except while `train/dense.py` trains it. It runs in the dtype of its weights.

    Args:
        config: The sizes of the tower.
        module: The module, built for tokens (B,T,N,D).
    """

    def __init__(self, config: TowerConfig, module: TemporalModule):
        super().__init__(module.queries)
        self.image_size = config.image_size
        self.tower = build_tower(config).requires_grad_(False)
        self.module = module

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The tokens are the values of pixels from 0 to 255, (B,T,3,S*S)."""
        return self.module(self.see(tokens, mask).to(tokens.dtype), elapsed_s, mask)

    def see(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns what the tower gives of the frames, (B,T,N,D), zero at padding."""
        # One segment at a time, because a tower that reads all frames together must not see padding.
        seen = [self._see(frames[real]) for frames, real in zip(tokens, mask, strict=True)]
        padded = seen[0].new_zeros(*mask.shape, *seen[0].shape[1:])
        padded[mask] = torch.cat(seen)
        return padded

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        """(T,3,S*S) to (T,N,D)."""
        images = normalise(pixels.unflatten(-1, (self.image_size, self.image_size)) / 255)
        return self.tower(images[None].to(next(self.tower.parameters()).dtype))[0]
