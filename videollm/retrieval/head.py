"""The interface of similarity heads, which score texts against videos.

A head turns the frames of a video into a `VideoRepr`, which can be stored, and compares texts with it.

Shapes: Nt texts, Nv videos, T frames, L text tokens, E shared embedding width, K hidden layers, P patches per frame,
D tower width. `FrameFeatures` and `TextFeatures` are batches here: tokens (Nv,T,K,1+P,D), embed (Nv,T,E) and (Nt,E).
Embeddings need not have unit length.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures

Need = Literal["frame", "word", "hidden"]
# Elements of the largest tensor of one block of a pairwise comparison: 4 MB in float32, which fits into CPU caches.
BLOCK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class VideoRepr:
    """What a head stores of videos.

    Attributes:
        embed: One vector per video (Nv,E), before the last normalisation.
        frames: The frames (Nv,T,E) for heads that are not indexable. T is 0 for the others.
        mask: bool (Nv,T), True for real frames.
    """

    embed: torch.Tensor
    frames: torch.Tensor
    mask: torch.Tensor

    @staticmethod
    def of(embed: torch.Tensor) -> "VideoRepr":
        """Returns a representation of vectors (Nv,E) without frames."""
        empty = embed.new_zeros(len(embed), 0, embed.shape[-1])
        return VideoRepr(embed, empty, torch.zeros(empty.shape[:2], dtype=torch.bool, device=embed.device))

    def __len__(self) -> int:
        return len(self.embed)

    def __getitem__(self, videos: slice | torch.Tensor) -> "VideoRepr":
        return VideoRepr(self.embed[videos], self.frames[videos], self.mask[videos])


def pad_videos(videos: list[FrameFeatures]) -> tuple[FrameFeatures, torch.Tensor]:
    """Returns videos of different lengths as one batch padded with zeros, and the mask (Nv,T) of real frames."""
    lengths = torch.tensor([len(v) for v in videos])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens, embed, concepts = (
        nn.utils.rnn.pad_sequence([getattr(v, name) for v in videos], batch_first=True)
        for name in ("tokens", "embed", "concepts")
    )
    return FrameFeatures(tokens, embed, concepts), mask.to(embed.device)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Returns x / ‖x‖ along the last axis."""
    return F.normalize(x, dim=-1)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns the mean (B,...) of x (B,T,...) over the frames where the mask (B,T) is True, at least one per row."""
    weight = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


class RetrievalHead(nn.Module):
    """Scores texts against videos.

    Attributes:
        needs: The inputs that the head reads: "frame" embeddings, "word" embeddings, or "hidden" layers of the visual
            tower.
        indexable: Whether the score is the dot product of `text.embed` and `video.embed`, so that a vector index finds
            the same videos. `embed` of other heads serves a first selection, which the head then re-ranks.
        unit_length: Whether both vectors of that product are normalised to unit length.
        hidden_layers: The number of the tower's last layers that the head reads.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"frame"})
    indexable: ClassVar[bool] = True
    unit_length: ClassVar[bool] = True
    hidden_layers: int = 0

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        """Returns the representation of a batch of videos.

        Args:
            frames: The features of the frames.
            mask: bool (Nv,T), True for real frames. Every video has at least one, and padding comes after them.
        """
        raise NotImplementedError

    def score(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        """Returns the scores (Nt,Nv), before any temperature."""
        if not self.unit_length:
            return text.embed @ video.embed.mT
        return unit(text.embed) @ unit(video.embed).mT


class PairwiseHead(RetrievalHead):
    """A head that compares every text with every video by more than a dot product.

    Pairs are scored in blocks, so that memory does not grow with the number of pairs.
    """

    indexable: ClassVar[bool] = False

    def score(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        each = self.pair_elements(text, video)
        columns = max(1, min(len(video), BLOCK_ELEMENTS // each))
        rows = max(1, BLOCK_ELEMENTS // (each * columns))
        return torch.cat(
            [
                torch.cat([self.score_block(part, video[j : j + columns]) for j in range(0, len(video), columns)], 1)
                for part in (_texts(text, slice(i, i + rows)) for i in range(0, len(text.embed), rows))
            ]
        )

    def pair_elements(self, text: TextFeatures, video: VideoRepr) -> int:
        """Returns the number of elements of the largest tensor that `score_block` makes for one pair."""
        raise NotImplementedError

    def score_block(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        """Returns the scores (Nt,Nv) of a block, computed at once."""
        raise NotImplementedError


def _texts(text: TextFeatures, rows: slice) -> TextFeatures:
    return TextFeatures(text.tokens[rows], text.mask[rows], text.embed[rows])
