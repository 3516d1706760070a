"""The tower of the rendered world, whose tokens say what each patch shows and how it moves.

Shapes: B segments, T frames, S the side of a frame in pixels, N patches, D tower width.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from videollm.datasets.world_annotation import SHAPES

# A token begins with the probabilities of shapes and of colours, of which the first is that of none. Then follow, all
# of them 0 where nothing is: the centre from that of the patch (x, y) and the radius, in patches; cosine and sine of
# the angle. Then the motion of the thing or of the background (see `FrameTruth.flow`), and coarse pixels. What is left
# of D is free.
SHAPE_COUNT, COLOUR_COUNT = len(SHAPES) + 1, 12
CELLS = 4  # along a side of a patch, of the coarse pixels
TOKEN_PARTS = (SHAPE_COUNT, COLOUR_COUNT, 3, 2, 4, 3 * CELLS**2)
_REACH = 3  # pixels of half size in each direction within which a patch is looked for in a later frame
_LEAST = 0.003  # squared difference of normalised pixels that is noise
_SHARPNESS = 5.0


class ResidualConv(nn.Module):
    """x + a 3x3 convolution of x."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(F.gelu(self.norm(x)))


class WorldTower(nn.Module):
    """Convolutions over each frame, and a correlation layer over its two neighbours (FlowNet, Dosovitskiy et al. 2015).

    Args:
        width: D.
        patch: The side of a patch in pixels, a power of 2 of at least 4.
        layers: The number of residual convolutions at full width. One more precedes the last halving.
    """

    def __init__(self, width: int, patch: int, layers: int):
        super().__init__()
        self.patch = patch
        halvings = patch.bit_length() - 1
        widths = [3, *(width >> k for k in reversed(range(halvings)))]
        convs = [
            nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2)
            for (a, b), kernel in zip(pairwise(widths), [5, *[3] * (halvings - 1)], strict=True)
        ]
        first = [part for conv in convs[:-1] for part in (conv, nn.GELU())]
        self.layers = nn.Sequential(
            *first, ResidualConv(width // 2), nn.GELU(), convs[-1], *(ResidualConv(width) for _ in range(layers))
        )
        self.matches = nn.Sequential(nn.Linear((2 * _REACH + 1) ** 2, width // 2), nn.GELU())
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(width + width // 2, width)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B,T,3,S,S) to (B,T,N,D). The first and the last frame are their own neighbours."""
        seen = self.norm(self.layers(video.flatten(0, 1)).flatten(2).mT)
        before = torch.cat((video[:, :1], video[:, :-1]), 1).flatten(0, 1)
        after = torch.cat((video[:, 1:], video[:, -1:]), 1).flatten(0, 1)
        moved = self.matches(correlation(before, after, self.patch))
        read = self.read(torch.cat((F.gelu(seen), moved), -1))
        shape, colour, place, turn, rest = read.split((*TOKEN_PARTS[:4], read.shape[-1] - sum(TOKEN_PARTS[:4])), -1)
        shape = shape.softmax(-1)
        is_there = 1 - shape[..., :1]
        tokens = torch.cat((shape, colour.softmax(-1), is_there * place, is_there * turn, rest), -1)
        return tokens.unflatten(0, video.shape[:2])


def correlation(before: torch.Tensor, after: torch.Tensor, patch: int) -> torch.Tensor:
    """Returns how well each patch of `before` matches `after` at each displacement, as probabilities (T,N,49).

    before, after: pixels (T,3,S,S). Frames are compared in grey at half size, at up to 3 pixels in each direction.
    """
    grey, other = (F.avg_pool2d(x.mean(1, keepdim=True), 2) for x in (before, after))
    side = grey.shape[-1]
    windows = F.pad(other, (_REACH,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)  # (T,1,7,7,S/2,S/2)
    differences = (windows[:, 0].flatten(1, 2) - grey).square()
    costs = F.avg_pool2d(differences, patch // 2).flatten(2).mT
    return (-_SHARPNESS * costs / (costs.mean(-1, keepdim=True) + _LEAST)).softmax(-1)
