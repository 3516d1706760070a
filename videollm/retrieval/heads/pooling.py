"""Heads without an order of frames: means and maximum."""

import torch

from videollm.encoders.base import FrameFeatures
from videollm.retrieval.head import RetrievalHead, VideoRepr, masked_mean, unit


class MeanPooling(RetrievalHead):
    """V = Σ_t m_t n(u_t) / Σ_t m_t with u = v, the frames' embeddings; score = n(t) · n(V), where n(x) = x/‖x‖
    (CLIP4Clip "meanP", Luo et al. 2021, `modules/modeling.py`). Subclasses say how u mixes the frames."""

    def __init__(self, embed_dim: int):
        super().__init__()
        self.embed_dim = embed_dim

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        return VideoRepr.of(self.pool(self.mix(frames.embed, mask), mask))

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B,T,E) -> (B,T,E); what comes out at padded frames is not used."""
        return frames

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked_mean(unit(frames), mask)


class PlainMean(MeanPooling):
    """V = Σ_t m_t v_t / Σ_t m_t, without normalising frames first; score = n(t) · n(V). Where the tower gives one
    vector a video, as ViCLIP's does, V is that vector."""

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked_mean(frames, mask)


class MaxPooling(MeanPooling):
    """V_e = max over real frames t of n(v_t)_e; score = n(t) · n(V)."""

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return unit(frames).masked_fill(~mask[..., None], float("-inf")).amax(1)
