"""Spatio-temporal pooling (Video-ChatGPT, Maaz et al. 2023).

Shapes: B segments, T frames, N tokens per frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
from videollm.models.temporal_base import TemporalModule, init_weights


def adaptive_pool(tokens: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """Applies `adaptive_avg_pool1d` to the real tokens of each row: (B,L,D) with a mask (B,L) becomes (B,size,D).

    For a row with L real tokens, bin i is the mean of the tokens floor(i*L/size) to ceil((i+1)*L/size). With L = size
    all tokens stay as they are, and with a smaller L some are repeated.
    """
    count = mask.sum(1, keepdim=True)  # (B,1)
    bins = torch.arange(size, device=tokens.device)
    start = bins * count // size  # (B,size)
    end = ((bins + 1) * count + size - 1) // size
    rank = mask.cumsum(1)[:, None] - 1  # (B,1,L)
    member = (rank >= start[..., None]) & (rank < end[..., None]) & mask[:, None]  # (B,size,L)
    return member.to(tokens.dtype) @ tokens / (end - start)[..., None].to(tokens.dtype)


class SpatioTemporalPool(TemporalModule):
    """Concatenates T means over space and N means over time, pools them to Q tokens, and applies one linear layer.

    Video-ChatGPT (`save_spatio_temporal_clip_features.py`) gives the language model all means, with T padded with zeros
    to 100 and N = 256. This module does not pad. It pools the means to the budget unless T + N is Q already.
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
    """Pools as the published Video-ChatGPT does (Maaz et al. 2023; `get_spatio_temporal_features_torch`).

    The output has a row for each frame, zero rows up to `max_frames`, and a row for each position in the frame. A
    linear layer follows, which turns a zero row into its bias. `queries` is the number of rows, in the published model
    100 + 256.

    Raises ConfigError if the encoder has another number of tokens per frame, or a segment has more than `max_frames`
    frames, because the published prompt has no placeholders for them.
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
            raise ConfigError(
                f"a segment has {frames} frames, but the temporal module takes at most {self.max_frames}; use fewer"
            )
        # Padding holds zeros. Behind the real frames it equals the zero rows that fill up to `max_frames`.
        order = (~mask).long().sort(dim=1, stable=True).indices
        temporal = tokens.mean(2).take_along_dim(order[..., None], 1)[:, : self.max_frames]
        temporal = nn.functional.pad(temporal, (0, 0, 0, self.max_frames - temporal.shape[1]))
        spatial = tokens.sum(1) / mask.sum(1)[:, None, None]
        return self.output(torch.cat((temporal, spatial), 1))
