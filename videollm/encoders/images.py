"""Resizing of decoded frames to the input size of an encoder."""

import torch
from torch.nn import functional as F


def resize_crop(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Scales the shorter side of uint8 pixels (T,3,H,W) to `size`, bicubic, and crops the centre.

    Returns float32 (T,3,size,size) in [0,255].
    """
    height, width = pixels.shape[-2:]
    scale = size / min(height, width)
    images = _resize(pixels, max(size, round(height * scale)), max(size, round(width * scale)))
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def squash(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Scales both sides of uint8 pixels (T,3,H,W) to `size`, bicubic. Returns float32 (T,3,size,size) in [0,255]."""
    return _resize(pixels, size, size)


def squash_nearest(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Scales both sides of uint8 pixels (T,3,H,W) to `size`, with the value of the nearest pixel. Returns float32
    (T,3,size,size)."""
    return F.interpolate(pixels.float(), (size, size))


def _resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    images = pixels.float()
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp_(0, 255)


# By open_clip's names for the first two.
RESIZE = {"shortest": resize_crop, "squash": squash, "nearest": squash_nearest}
