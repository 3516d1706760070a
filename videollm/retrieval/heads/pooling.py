"""Heads that pool frames without regard to their order: two means and a maximum."""

import torch

from videollm.encoders.base import FrameFeatures
from videollm.retrieval.head import RetrievalHead, VideoRepr, masked_mean, unit


class MeanPooling(RetrievalHead):
    """V = Σ_t m_t n(u_t) / Σ_t m_t; score = n(t) · n(V).

    v are the embeddings of the frames, m the mask, t the embedding of the text, and n(x) = x / ‖x‖. Here u = v.
    Subclasses mix the frames to get u. Source: CLIP4Clip "meanP" (Luo et al. 2021), `modules/modeling.py`.
    """

    def __init__(self, embed_dim: int):
        super().__init__()
        self.embed_dim = embed_dim

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        return VideoRepr.of(self.pool(self.mix(frames.embed, mask), mask))

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns u (B,T,E) from v (B,T,E). The result at padded frames is not used."""
        return frames

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked_mean(unit(frames), mask)


class PlainMean(MeanPooling):
    """V = Σ_t m_t v_t / Σ_t m_t, the mean of frames that are not normalised; score = n(t) · n(V).

    If the tower gives one vector per video, as that of ViCLIP does, V is this vector.
    """

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked_mean(frames, mask)


class MaxPooling(MeanPooling):
    """V_e = max_t n(v_t)_e over the real frames; score = n(t) · n(V)."""

    def pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return unit(frames).masked_fill(~mask[..., None], float("-inf")).amax(1)
