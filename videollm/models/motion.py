"""The motion stem: local mixing of frame tokens over space and time, before a temporal module compresses them.

Queries that attend to single frames have to find the displacement of each object anew. A convolution over neighbouring
frames and patches sees it directly.

Shapes: B segments, T frames, N tokens per frame, D encoder width, M moments, P places per moment, W stem width.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from videollm.errors import ConfigError
from videollm.models.temporal_base import TemporalModule

WIDTH = 128
DILATIONS = (1, 3)  # in time, of the residual convolutions: together they see four moments before and after


class MotionBlock(nn.Module):
    """A residual 3x3x3 convolution of (B,M,height,width,W). dilation: the distance of its taps in moments."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv3d(width, width, 3, padding=(dilation, 1, 1), dilation=(dilation, 1, 1))

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """real: (B,M,1,1,1), 0 at padding, which the convolution reads as it reads what lies outside the segment."""
        mixed = self.conv((nn.functional.gelu(self.norm(x)) * real).movedim(-1, 1))
        return x + mixed.movedim(1, -1)


class MotionStem(nn.Module):
    """Turns the patches of frames into tubelets of 4 frames x 2x2 patches, at every second frame and patch.

    The frames of a tubelet are the two of its moment, one before and one after. Residual convolutions then mix
    tubelets nearby.

    Args:
        token_dim: D.
        width: W.
        dilations: The dilation in time of each residual convolution.
    """

    def __init__(self, token_dim: int, width: int = WIDTH, dilations: Sequence[int] = DILATIONS):
        super().__init__()
        self.norm = nn.LayerNorm(token_dim)
        self.tubelets = nn.Conv3d(token_dim, width, (4, 2, 2), stride=2, padding=(1, 0, 0))
        self.blocks = nn.ModuleList(MotionBlock(width, dilation) for dilation in dilations)
        self.output_norm = nn.LayerNorm(width)

    def forward(
        self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns tokens (B,M,P,W), their times (B,M) and their mask (B,M), for M = T/2 and P = N/4, rounded up.

        A moment is real if one of its two frames is, and its time is the mean of those that are. The arguments are
        those of `TemporalModule.compress`. Raises ConfigError if the N tokens do not form a square.
        """
        side = math.isqrt(tokens.shape[2])
        if side**2 != tokens.shape[2]:
            raise ConfigError(
                f"frames have {tokens.shape[2]} tokens each, which form no square; the motion stem needs patches "
                "alone, so leave class_token out, or set stem to none"
            )
        # Real frames come first, because neighbours in time must be neighbours in the convolution.
        order = (~mask).byte().argsort(dim=1, stable=True)
        mask, elapsed_s = mask.gather(1, order), elapsed_s.gather(1, order)
        tokens = tokens.take_along_dim(order[..., None, None], 1)
        rest = tokens.shape[1] % 2
        mask, elapsed_s = (nn.functional.pad(x, (0, rest)) for x in (mask, elapsed_s))
        moments = mask.unflatten(1, (-1, 2))
        real = moments.any(2)
        count = moments.sum(2).clamp(min=1)
        times_s = elapsed_s.unflatten(1, (-1, 2)).sum(2) / count  # padding has time 0

        x = (self.norm(tokens) * mask[:, : tokens.shape[1], None, None]).unflatten(2, (side, side))
        x = nn.functional.pad(x, (0, 0, 0, side % 2, 0, side % 2, 0, rest)).movedim(-1, 1)
        x = self.tubelets(x).movedim(1, -1)
        keep = real[:, :, None, None, None].to(x.dtype)
        for block in self.blocks:
            x = block(x, keep)
        return (self.output_norm(x) * keep).flatten(2, 3), times_s, real


def stem_tokens(tokens_per_frame: int | None) -> int | None:
    """Returns P, the number of tokens of a moment, if the encoder fixes N."""
    return None if tokens_per_frame is None else math.ceil(math.isqrt(tokens_per_frame) / 2) ** 2


class StemModule(TemporalModule):
    """A motion stem, and the module that reads its tokens instead of the encoder's.

    Args:
        stem: The stem.
        module: The module, built for tokens (B,M,P,W).
    """

    def __init__(self, stem: MotionStem, module: TemporalModule):
        super().__init__(module.queries)
        self.stem = stem
        self.module = module

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.module.compress(*self.stem(tokens, elapsed_s, mask))
