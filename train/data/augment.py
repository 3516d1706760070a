"""Random changes of the clips of a batch, which training sees instead of the clips themselves.

Shapes: B clips, T frames, S pixels on each side.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

SMALLEST = 0.7  # sides of a crop, as a share of the frame's
FEWEST = 0.5  # frames of a part, as a share of the clip's
STRENGTH = 0.3  # of a change of colour: factors are from 1 - STRENGTH to 1 + STRENGTH
DROPPED = 0.2  # share of the frames that are left out

Clips = tuple[torch.Tensor, torch.Tensor]


def augmented(pixels: torch.Tensor, mask: torch.Tensor, kinds: Sequence[str]) -> Clips:
    """Returns the clips, uint8 (B,T,3,S,S), and their mask bool (B,T) after the changes `kinds`, names in `CHANGES`.

    Each clip is changed by itself, all its frames in the same way, and keeps at least one frame. Padding stays last.
    Numbers are drawn from PyTorch's generator.
    """
    for kind in kinds:
        clips = [CHANGES[kind](clip[real]) for clip, real in zip(pixels, mask, strict=True)]
        pixels, mask = torch.zeros_like(pixels), torch.zeros_like(mask)
        for row, clip in enumerate(clips):
            pixels[row, : len(clip)], mask[row, : len(clip)] = clip, True
    return pixels, mask


def _crop(clip: torch.Tensor) -> torch.Tensor:
    """Returns a square part of each frame, resized to the frame."""
    size = clip.shape[-1]
    side = max(1, round(size * _between(SMALLEST, 1)))
    top, left = torch.randint(size - side + 1, (2,)).tolist()
    part = clip[..., top : top + side, left : left + side].float()
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True).round().to(torch.uint8)


def _colour(clip: torch.Tensor) -> torch.Tensor:
    """Returns the frames with another brightness, contrast and saturation."""
    bright, contrast, saturation = (_between(1 - STRENGTH, 1 + STRENGTH) for _ in range(3))
    images = bright * clip.float()
    images = images.mean() + contrast * (images - images.mean())
    grey = images.mean(1, keepdim=True)
    return (grey + saturation * (images - grey)).clamp(0, 255).round().to(torch.uint8)


def _part(clip: torch.Tensor) -> torch.Tensor:
    """Returns frames that follow one another, at least half of them."""
    length = max(1, round(len(clip) * _between(FEWEST, 1)))
    start = int(torch.randint(len(clip) - length + 1, ()))
    return clip[start : start + length]


def _speed(clip: torch.Tensor) -> torch.Tensor:
    """Returns every frame, or every second one, as if the clip were played at twice the speed."""
    return clip[:: int(torch.randint(1, 3, ()))]


def _drop(clip: torch.Tensor) -> torch.Tensor:
    """Returns the frames without a random few."""
    kept = torch.rand(len(clip)) >= DROPPED
    kept[torch.randint(len(clip), ())] = True
    return clip[kept]


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "crop": _crop,
    "colour": _colour,
    "part": _part,
    "speed": _speed,
    "drop": _drop,
}
