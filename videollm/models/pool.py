"""Spatio-temporal pooling (Video-ChatGPT, Maaz et al. 2023).

Shapes: B segments, T frames, N tokens a frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn

from videollm.config import TemporalConfig
from videollm.models.temporal_base import TemporalModule, init_weights


def adaptive_pool(tokens: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """`adaptive_avg_pool1d` over the real tokens of each row: (B,L,D) with mask (B,L) to (B,size,D).

    Bin i averages real tokens floor(i*L/size) to ceil((i+1)*L/size): each is in a bin, none is changed where there
    are `size` of them, and some are repeated where there are fewer.
    """
    count = mask.sum(1, keepdim=True)  # (B,1)
    bins = torch.arange(size, device=tokens.device)
    start = bins * count // size  # (B,size)
    end = ((bins + 1) * count + size - 1) // size
    rank = mask.cumsum(1)[:, None] - 1  # (B,1,L)
    member = (rank >= start[..., None]) & (rank < end[..., None]) & mask[:, None]  # (B,size,L)
    return member.to(tokens.dtype) @ tokens / (end - start)[..., None].to(tokens.dtype)


class SpatioTemporalPool(TemporalModule):
    """T means over space, then N means over time, then one linear layer.

    Video-ChatGPT (`save_spatio_temporal_clip_features.py`) gives the language model all of them, T padded with zeros
    to 100 and N = 256. Here nothing is padded, and they are pooled to the budget where T + N is not Q already.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.output = nn.Linear(token_dim, out_dim)
        self.apply(init_weights)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        temporal = tokens.mean(2)
        spatial = tokens.sum(1) / mask.sum(1)[:, None, None]
        pooled = torch.cat((temporal, spatial), 1)
        real = torch.cat((mask, mask.new_ones(spatial.shape[:2])), 1)
        return self.output(adaptive_pool(pooled, real, self.queries))
