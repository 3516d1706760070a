"""Random changes of the clips of a batch, which training sees instead of the clips themselves.

Shapes: B clips, T frames, H and W pixels of a frame, S pixels on each side.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F

SMALLEST = 0.7  # sides of a crop, as a share of the frame's
FEWEST = 0.5  # frames of a part, as a share of the clip's
STRENGTH = 0.3  # of a change of colour: factors are from 1 - STRENGTH to 1 + STRENGTH
DROPPED = 0.2  # share of the frames that are left out

Clips = tuple[torch.Tensor, torch.Tensor]
Change = Callable[[torch.Tensor], torch.Tensor]  # of the frames of a clip, uint8 (T,3,H,W)


def augmented(pixels: torch.Tensor, mask: torch.Tensor, kinds: Sequence[str]) -> Clips:
    """Returns the clips, uint8 (B,T,3,S,S), and their mask bool (B,T) after the changes `kinds`, names in `CHANGES`.

    Each clip is changed by itself, all its frames in the same way, and keeps at least one frame. Padding stays last.
    Numbers are drawn from PyTorch's generator.
    """
    for kind in kinds:
        clips = [CHANGES[kind]()(clip[real]) for clip, real in zip(pixels, mask, strict=True)]
        pixels, mask = torch.zeros_like(pixels), torch.zeros_like(mask)
        for row, clip in enumerate(clips):
            pixels[row, : len(clip)], mask[row, : len(clip)] = clip, True
    return pixels, mask


def drawn_change(kinds: Sequence[str], seed: int) -> Change:
    """Returns the changes `kinds` of one clip, which may come in several pieces. The seed decides what is drawn."""
    with torch.random.fork_rng(devices=[]):  # that of GPUs stays as it is
        torch.default_generator.manual_seed(seed)
        changes = [CHANGES[kind]() for kind in kinds]
    return lambda clip: reduce(lambda changed, change: change(changed), changes, clip)


def _crop() -> Change:
    """Takes a part of each frame, of its form, and resizes it to the frame."""
    share, down, across = _between(SMALLEST, 1), _between(0, 1), _between(0, 1)

    def change(clip: torch.Tensor) -> torch.Tensor:
        size = clip.shape[-2:]
        height, width = (max(1, round(side * share)) for side in size)
        top, left = round((size[0] - height) * down), round((size[1] - width) * across)
        part = clip[..., top : top + height, left : left + width].float()
        return F.interpolate(part, size, mode="bilinear", antialias=True).round().to(torch.uint8)

    return change


def _colour() -> Change:
    """Gives frames another brightness, contrast and saturation."""
    bright, contrast, saturation = (_between(1 - STRENGTH, 1 + STRENGTH) for _ in range(3))

    def change(clip: torch.Tensor) -> torch.Tensor:
        images = bright * clip.float()
        middle = images.mean((1, 2, 3), keepdim=True)
        images = middle + contrast * (images - middle)
        grey = images.mean(1, keepdim=True)
        return (grey + saturation * (images - grey)).clamp(0, 255).round().to(torch.uint8)

    return change


def _part() -> Change:
    """Keeps frames that follow one another, at least half of them."""
    share, place = _between(FEWEST, 1), _between(0, 1)

    def change(clip: torch.Tensor) -> torch.Tensor:
        length = max(1, round(len(clip) * share))
        start = round((len(clip) - length) * place)
        return clip[start : start + length]

    return change


def _speed() -> Change:
    """Keeps every frame, or every second one, as if the clip were played at twice the speed."""
    step = int(torch.randint(1, 3, ()))
    return lambda clip: clip[::step]


def _drop() -> Change:
    """Leaves a random few of the frames out."""

    def change(clip: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(len(clip)) >= DROPPED
        kept[torch.randint(len(clip), ())] = True
        return clip[kept]

    return change


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


# Each draws what all frames of a clip have in common, and returns the change of that clip.
CHANGES: dict[str, Callable[[], Change]] = {
    "crop": _crop,
    "colour": _colour,
    "part": _part,
    "speed": _speed,
    "drop": _drop,
}
