"""The student head of TeachCLIP: an attention-weighted mean of frames, which finer models teach."""

import torch
from torch import nn

from videollm.encoders.base import FrameFeatures
from videollm.retrieval.head import RetrievalHead, VideoRepr, unit
from videollm.retrieval.heads.pooling import MeanPooling


class AttentiveAggregation(RetrievalHead):
    """The student of TeachCLIP. With u the frames that `temporal` mixed:

        a_t = w · ReLU(W u_t + b) + b';  V = Σ_t softmax_t(a / 0.1) n(u_t);  score = n(t) · n(V)

    Search costs as much as with mean pooling. The official softmax includes padded frames, as does `official_compat`.
    Source: TeachCLIP (Tian et al. 2024), `modules/modeling.py`.
    """

    def __init__(self, temporal: MeanPooling, temperature: float = 0.1, official_compat: bool = False):
        super().__init__()
        self.temporal, self.temperature, self.official_compat = temporal, temperature, official_compat
        self.hidden = nn.Linear(temporal.embed_dim, temporal.embed_dim)
        self.weight = nn.Linear(temporal.embed_dim, 1)
        for layer in (self.hidden, self.weight):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        mixed = self.temporal.mix(frames.embed, mask)
        weights = (self.frame_logits(mixed, mask) / self.temperature).softmax(-1)
        return VideoRepr.of(torch.einsum("bt,bte->be", weights, unit(mixed)))

    def frame_logits(self, mixed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns a (B,T) for mixed frames (B,T,E). It is -inf at padding, unless `official_compat` is set."""
        logits = self.weight(self.hidden(mixed).relu()).squeeze(-1)
        return logits if self.official_compat else logits.masked_fill(~mask, float("-inf"))

    def frame_weights(self, frames: FrameFeatures, mask: torch.Tensor) -> torch.Tensor:
        """Returns softmax_t(a) (B,T) at temperature 1, which the fine-grained teaching loss compares with that of the
        teachers (`losses.fine_loss`)."""
        return self.frame_logits(self.temporal.mix(frames.embed, mask), mask).softmax(-1)
