"""Concatenation of frame tokens, followed by a small network (LLaVA-1.5, Liu et al. 2023).

Shapes: B segments, T frames, N tokens per frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn

from videollm.config import TemporalConfig
from videollm.models.pool import adaptive_pool
from videollm.models.temporal_base import TemporalModule, init_weights


def mlp(token_dim: int, out_dim: int) -> nn.Sequential:
    """Builds LLaVA-1.5's projector `mlp2x_gelu`, from (..., D) to (..., H)."""
    return nn.Sequential(nn.Linear(token_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim)).apply(init_weights)


class ConcatMLP(TemporalModule):
    """Averages the T*N tokens, in order of time, with their neighbours to Q tokens, and applies one network to each."""

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.mlp = mlp(token_dim, out_dim)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        real = mask.repeat_interleave(tokens.shape[2], dim=1)
        return self.mlp(adaptive_pool(tokens.flatten(1, 2), real, self.queries))
