"""Recurrent mixing of frames."""

import torch
from torch import nn

from videollm.retrieval.heads.pooling import MeanPooling


class LSTM(MeanPooling):
    """u = LSTM(v) + v, one layer, forward in time, then as MeanPooling (CLIP4Clip "seqLSTM", `modules/modeling.py`).

    A state never sees later frames, so padding behind a video changes nothing and no sequence is packed. The official
    code packs, which is the same, but fails on a video without frames.
    """

    def __init__(self, embed_dim: int):
        super().__init__(embed_dim)
        self.lstm = nn.LSTM(embed_dim, embed_dim, batch_first=True)

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.lstm(frames)[0] + frames
