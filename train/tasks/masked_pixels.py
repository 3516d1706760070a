"""Masked video modelling with pixels as targets, on a tower and a motion stem.

Shapes: B clips, T frames, S the side of a frame in pixels, G patches along a side, N = G * G patches, M moments, P
places, W stem width, V values of a patch.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from train.tasks.dense_heads import Measures, explained
from videollm.models.visual_prompting import VisualBatch

_GREY = 127.5  # of patches that are hidden
_LEAST = 1e-4  # variance of a patch, of values from 0 to 1; below it there is little but rounding


class MaskedPixels(nn.Module):
    """Masked video modelling with tube masking (VideoMAE, Tong et al. 2022).

    The same patches are hidden in all frames of a clip, so that no other frame shows them. Each token of the motion
    stem predicts its cube of pixels, 2 frames x 2x2 patches, by one linear layer (SimMIM, Xie et al. 2022). The loss is
    the mean squared error of the hidden patches, whose values have mean 0 and variance 1 (He et al. 2022).

    Args:
        width: W.
        patch: The side of a patch in pixels.
        share: The share of the patches that are hidden. At least one is hidden and one is not.
    """

    def __init__(self, width: int, patch: int, share: float = 0.5):
        super().__init__()
        self.patch, self.share = patch, share
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * 2 * 2 * 3 * patch**2))

    def hidden_patches(self, clips: int, patches: int, device: torch.device) -> torch.Tensor:
        """Returns bool (B,N), a random choice."""
        count = min(math.ceil(patches * self.share), patches - 1)
        return torch.rand(clips, patches, device=device).argsort(1) < count

    def forward(
        self, read: Callable[[VisualBatch], torch.Tensor], visual: VisualBatch
    ) -> tuple[torch.Tensor, Measures]:
        """Returns the loss, and how much of the hidden patches is explained.

        Args:
            read: From pixels (B,T,3,S*S) to the tokens of the stem (B,M,P,W).
            visual: The clips, with pixels from 0 to 255.
        """
        pixels, mask = visual.tokens.float(), visual.mask
        grid = math.isqrt(pixels.shape[-1]) // self.patch
        hidden = self.hidden_patches(len(pixels), grid**2, pixels.device)
        shown = pixels.where(~_of_pixels(hidden, grid, self.patch)[:, None, None], _GREY)
        cubes = self.predict(read(VisualBatch(shown, visual.times_s, mask))).unflatten(-1, (2, 2, 2, -1))
        side = math.isqrt(cubes.shape[2])
        cubes = cubes.unflatten(2, (side, side)).permute(0, 1, 4, 2, 5, 3, 6, 7)  # (B,M,2,side,2,side,2,V)
        predicted = cubes.flatten(1, 2).flatten(2, 3).flatten(3, 4)[:, : mask.shape[1], :grid, :grid].flatten(2, 3)
        target = patch_pixels(pixels, self.patch)
        chosen = mask[..., None] & hidden[:, None]
        return F.mse_loss(predicted[chosen], target[chosen]), {
            "hidden pixels": explained(predicted[chosen], target[chosen])
        }


def patch_pixels(pixels: torch.Tensor, patch: int) -> torch.Tensor:
    """Returns the values of each patch, normalised, (B,T,N,V), of pixels (B,T,3,S*S) from 0 to 255."""
    side = math.isqrt(pixels.shape[-1])
    images = pixels.flatten(0, 1).unflatten(-1, (side, side)) / 255
    values = F.pixel_unshuffle(images, patch).flatten(2).mT
    return F.layer_norm(values, values.shape[-1:], eps=_LEAST).unflatten(0, pixels.shape[:2])


def _of_pixels(patches: torch.Tensor, grid: int, patch: int) -> torch.Tensor:
    """(B,N) to (B,S*S)."""
    rows = patches.unflatten(1, (grid, grid))
    return rows.repeat_interleave(patch, 1).repeat_interleave(patch, 2).flatten(1)
