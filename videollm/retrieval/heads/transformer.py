"""Mixing of frames by a transformer after the tower."""

import torch
from torch import nn

from videollm.errors import ConfigError
from videollm.retrieval.clip import TextTransformer, Transformer
from videollm.retrieval.heads.pooling import MeanPooling

CROSS_EPS = 1e-12  # CLIP4Clip's new modules, unlike CLIP's 1e-5


def copy_text_blocks(transformer: Transformer, positions: nn.Parameter, text: TextTransformer) -> None:
    """Start from CLIP's text tower: its positions and its first blocks, as CLIP4Clip does. Both must be as wide."""
    source = dict(text.transformer.named_parameters())
    with torch.no_grad():
        positions.copy_(text.positional_embedding)
        for name, parameter in transformer.named_parameters():
            parameter.copy_(source[name])


class TemporalTransformer(MeanPooling):
    """u = Transformer(v + P_{0..T-1}) + v with CLIP's blocks, padded frames not read, then as MeanPooling (CLIP4Clip
    "seqTransf", `modules/modeling.py`, `modules/module_cross.py`)."""

    def __init__(
        self, embed_dim: int, layers: int = 4, heads: int = 8, mlp_width: int | None = None, context: int = 77
    ):
        super().__init__(embed_dim)
        self.positions = nn.Parameter(0.02 * torch.randn(context, embed_dim))
        self.transformer = Transformer(embed_dim, layers, heads, mlp_width or 4 * embed_dim, CROSS_EPS)

    def init_from(self, text: TextTransformer) -> None:
        copy_text_blocks(self.transformer, self.positions, text)

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        length = frames.shape[1]
        if length > len(self.positions):
            raise ConfigError(f"a video has {length} frames, this head has positions for {len(self.positions)}")
        return self.transformer(frames + self.positions[:length], mask) + frames
