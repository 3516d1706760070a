"""The head that mixes frames with an LSTM (CLIP4Clip "seqLSTM")."""

import torch
from torch import nn

from videollm.retrieval.heads.pooling import MeanPooling


class LSTM(MeanPooling):
    """u = LSTM(v) + v with one forward layer, then as `MeanPooling`.

    Source: CLIP4Clip "seqLSTM" (Luo et al. 2021), `modules/modeling.py`. A state does not depend on later frames, so
    that padding after a video changes nothing and sequences need no packing. The official code packs them, which gives
    the same result but fails on a video without frames.
    """

    def __init__(self, embed_dim: int):
        super().__init__(embed_dim)
        self.lstm = nn.LSTM(embed_dim, embed_dim, batch_first=True)

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.lstm(frames)[0] + frames
