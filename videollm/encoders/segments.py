"""Encoders that embed the frames of a segment together, such as trained retrieval heads.

Shapes: T frames, N tokens per frame, D token width, V vectors of a segment, E width of the space shared with texts.
"""

import torch
from torch.nn import functional as F

from videollm.encoders.base import FrameEncoder


class SegmentEncoder:
    """A FrameEncoder whose frames have no embedding of their own: `embed` of `encode_frames` is zero.

    Attributes:
        vectors: V. The score of a segment is the greatest cosine of a text with one of them.
    """

    vectors: int = 1

    def embed_segment(self, tokens: torch.Tensor, times_s: torch.Tensor) -> torch.Tensor:
        """Returns unit vectors (V,E) of a segment.

        Args:
            tokens: What `encode_frames` returned of its frames (T,N,D).
            times_s: Their times in seconds (T,).
        """
        raise NotImplementedError


def vectors_of(encoder: FrameEncoder) -> int:
    """Returns the number of vectors that an encoder gives each segment."""
    return encoder.vectors if isinstance(encoder, SegmentEncoder) else 1


def embed_frames(
    encoder: FrameEncoder, tokens: torch.Tensor, embed: torch.Tensor, times_s: torch.Tensor
) -> torch.Tensor:
    """Returns the unit vectors (V,E) of frames, float32 on the CPU: those of a `SegmentEncoder`, or the mean of the
    frames' own.

    Args:
        encoder: The encoder of the frames.
        tokens, embed: The features of the frames (T,N,D) and (T,E).
        times_s: Their times in seconds (T,).
    """
    if isinstance(encoder, SegmentEncoder):
        return encoder.embed_segment(tokens, times_s).float().cpu()
    return F.normalize(embed.float().mean(0, keepdim=True), dim=-1).cpu()
