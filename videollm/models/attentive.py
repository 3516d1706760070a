"""Attention pooling of each frame, which keeps frames apart and in order.

Shapes: B segments, T frames, N tokens per frame, D encoder width, K attention heads, Q query tokens, H language-model
width.
"""

import torch
from torch import nn

from videollm.config import TemporalConfig
from videollm.models.concat import mlp
from videollm.models.pool import adaptive_pool
from videollm.models.qformer import WAVES, time_features
from videollm.models.temporal_base import TemporalModule


class AttentivePool(TemporalModule):
    """K learned queries attend to the tokens of each frame, and a network makes one token of what they read.

    Frames are then averaged with their neighbours to Q tokens. Since each token is about one time, the language model
    has the order of events without learning it first.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.scores = nn.Linear(token_dim, config.heads)
        self.values = nn.Linear(token_dim, config.width)
        self.time = nn.Linear(2 * WAVES, out_dim)
        self.mlp = mlp(config.heads * config.width, out_dim)
        self.norm = nn.LayerNorm(out_dim)
        # `mlp` starts with the small weights of BERT, which suit its width of 768 only.
        for layer in (self.scores, self.values, *self.mlp):
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = self.scores(tokens).softmax(2)  # (B,T,N,K)
        read = (weights.mT @ self.values(tokens)).flatten(2)
        seen = self.norm(self.mlp(read)) + self.time(time_features(elapsed_s).to(read.dtype))
        return adaptive_pool(seen, mask, self.queries)
