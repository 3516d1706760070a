"""Mutual guidance of words and frames."""

from typing import ClassVar

import torch

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.retrieval.head import Need, PairwiseHead, VideoRepr, masked_mean
from videollm.retrieval.heads.stan import STAN

SHARPNESS = 100.0  # τ
NORM_EPS = 1e-6  # of the official normalisation; that of `F.normalize` is 1e-12


class MugSTAN(PairwiseHead):
    """Compares the frames f_t of STAN with the words w_l of the text. With g_{lt} = n(w_l) · n(f_t), τ = 100, and σ a
    softmax over the real words or frames:

        a_l = Σ_t g_{lt} σ_t(τ g_{lt});  A = Σ_l a_l σ_l(τ a_l)
        b_t = Σ_l g_{lt} σ_l(τ g_{lt});  B = Σ_t b_t σ_t(τ b_t);  score = (A + B) / 2

    Padded words are never read. Padded frames are read only with `official_compat` of STAN. Source: Mug-STAN (Liu et
    al. 2023b), `mmaction/models/heads/mug_head.py`, mode `mug_frame_token_simple`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"hidden", "word"})

    def __init__(self, stan: STAN):
        super().__init__()
        self.stan = stan
        self.hidden_layers = stan.hidden_layers

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        """frames.tokens (Nv,T,K,1+P,D)."""
        if self.stan.official_compat:
            mask = torch.ones_like(mask)
        embeddings = self.stan.frame_embeddings(frames.tokens, mask)
        return VideoRepr(masked_mean(embeddings, mask), embeddings, mask)

    def pair_elements(self, text: TextFeatures, video: VideoRepr) -> int:
        return text.tokens.shape[1] * video.frames.shape[1]

    def score_block(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        words, frames = (torch.nn.functional.normalize(x, dim=-1, eps=NORM_EPS) for x in (text.tokens, video.frames))
        grid = torch.einsum("ald,btd->ablt", words, frames)
        word_mask, frame_mask = text.mask[:, None], video.mask[None]
        by_word = soft_maximum(grid, frame_mask[:, :, None])
        by_frame = soft_maximum(grid.mT, word_mask[:, :, None])
        return (soft_maximum(by_word, word_mask) + soft_maximum(by_frame, frame_mask)) / 2


def soft_maximum(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns Σ x σ(τ x) over the last axis where the mask is True. It approaches the maximum for large τ."""
    return (x * (SHARPNESS * x).masked_fill(~mask, float("-inf")).softmax(-1)).sum(-1)
