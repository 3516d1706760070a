"""The contract of similarity heads: frames become what is kept of a video, and that is compared with texts.

Shapes: Nt texts, Nv videos, T frames, L text tokens, E shared embedding width, K hidden layers, P patches a frame,
D tower width. FrameFeatures and TextFeatures come in batches: tokens (Nv,T,K,1+P,D), embed (Nv,T,E) and (Nt,E);
embeddings need not have unit length.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures

Need = Literal["frame", "word", "hidden"]
# Elements of the largest tensor that a comparison of texts with videos makes at once: 4 MB in float32, for the caches.
BLOCK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class VideoRepr:
    """What is kept of videos. embed (Nv,E): one vector each, before the last normalisation. frames (Nv,T,E), mask
    (Nv,T) bool: frames too, for heads that are not indexable; T is 0 for the others."""

    embed: torch.Tensor
    frames: torch.Tensor
    mask: torch.Tensor

    @staticmethod
    def of(embed: torch.Tensor) -> "VideoRepr":
        """Vectors without frames."""
        empty = embed.new_zeros(len(embed), 0, embed.shape[-1])
        return VideoRepr(embed, empty, torch.zeros(empty.shape[:2], dtype=torch.bool, device=embed.device))

    def __len__(self) -> int:
        return len(self.embed)

    def __getitem__(self, videos: slice | torch.Tensor) -> "VideoRepr":
        return VideoRepr(self.embed[videos], self.frames[videos], self.mask[videos])


def pad_videos(videos: list[FrameFeatures]) -> tuple[FrameFeatures, torch.Tensor]:
    """Videos of different lengths as one batch, zeros behind the last frame, and the mask (Nv,T) of real frames."""
    lengths = torch.tensor([len(v) for v in videos])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens, embed, concepts = (
        nn.utils.rnn.pad_sequence([getattr(v, name) for v in videos], batch_first=True)
        for name in ("tokens", "embed", "concepts")
    )
    return FrameFeatures(tokens, embed, concepts), mask.to(embed.device)


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=-1)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the frames that are real; x (B,T,...), mask (B,T), at least one True a row."""
    weight = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


class RetrievalHead(nn.Module):
    """Scores texts against videos.

    needs: what it reads: "frame" embeddings, "word" embeddings, "hidden" layers of the visual tower.
    indexable: the score is `unit(text) · unit(embed)` (or, where `unit_length` is False, without normalisation), so
    that a vector index finds what the head would. `embed` of other heads is for a first selection to re-rank.
    hidden_layers: how many of the tower's last layers it reads.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"frame"})
    indexable: ClassVar[bool] = True
    unit_length: ClassVar[bool] = True
    hidden_layers: int = 0

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        """mask (Nv,T) bool, True at real frames: at least one a video, none after the first False."""
        raise NotImplementedError

    def score(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        """(Nt,Nv), before any temperature."""
        if not self.unit_length:
            return text.embed @ video.embed.mT
        return unit(text.embed) @ unit(video.embed).mT


class PairwiseHead(RetrievalHead):
    """A head whose score is computed pair by pair, in blocks so that memory does not grow with the number of pairs."""

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
        """Elements of the largest tensor for one pair."""
        raise NotImplementedError

    def score_block(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        """(Nt,Nv), all pairs at once."""
        raise NotImplementedError


def _texts(text: TextFeatures, rows: slice) -> TextFeatures:
    return TextFeatures(text.tokens[rows], text.mask[rows], text.embed[rows])
