"""Spatio-temporal pooling (Video-ChatGPT, Maaz et al. 2023).

Shapes: B segments, T frames, N tokens a frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
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


class VideoChatGptPool(TemporalModule):
    """Video-ChatGPT's pooling as it was published: a row for each frame, zero rows up to `max_frames`, a row for each
    place in the frame, then one linear layer (Maaz et al. 2023; `get_spatio_temporal_features_torch`). A zero row
    becomes the layer's bias. `queries` is the number of rows, 100 + 256.

    Raises ConfigError for an encoder with another number of tokens a frame, and for more frames than `max_frames`,
    which the published prompt has no places for.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.max_frames = config.max_frames
        if tokens_per_frame is not None and config.queries != config.max_frames + tokens_per_frame:
            raise ConfigError(
                f"queries is {config.queries}; with max_frames {config.max_frames} and an encoder of "
                f"{tokens_per_frame} tokens a frame, kind video_chatgpt needs {config.max_frames + tokens_per_frame}"
            )
        self.output = nn.Linear(token_dim, out_dim)
        self.apply(init_weights)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        frames = int(mask.sum(1).max())
        if frames > self.max_frames:
            raise ConfigError(f"a segment has {frames} frames, the temporal module takes {self.max_frames}; use fewer")
        # Padding, which holds zeros, goes behind the real frames, where it equals the zero rows that fill up.
        order = (~mask).long().sort(dim=1, stable=True).indices
        temporal = tokens.mean(2).take_along_dim(order[..., None], 1)[:, : self.max_frames]
        temporal = nn.functional.pad(temporal, (0, 0, 0, self.max_frames - temporal.shape[1]))
        spatial = tokens.sum(1) / mask.sum(1)[:, None, None]
        return self.output(torch.cat((temporal, spatial), 1))
