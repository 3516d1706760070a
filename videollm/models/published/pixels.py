"""How the published systems turn decoded frames into pixels for their towers.

Shapes: T frames, C = 3 channels, H and W height and width.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Box = tuple[int, int, int, int]  # top, left, height, width


def normalise(
    pixels: torch.Tensor, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
) -> torch.Tensor:
    """(pixels - mean) / std for pixels (..., C, H, W) in [0, 1]."""
    shape = (-1, 1, 1)
    return (pixels - pixels.new_tensor(mean).view(shape)) / pixels.new_tensor(std).view(shape)


def eval_video(clip: torch.Tensor) -> torch.Tensor:
    """Video-LLaMA's `alpro_video_eval`: a clip (C,T,H,W) of floats in 0 to 255, which the decoder has resized already,
    to normalised pixels (C,T,H,W)."""
    return normalise(clip.transpose(0, 1).to(torch.uint8).float() / 255).transpose(0, 1)


def train_video(clip: torch.Tensor, box: Box, size: int, *, official_compat: bool = True) -> torch.Tensor:
    """Video-LLaMA's `alpro_video_train` with the crop `box` already drawn: a clip (C,T,H,W) of floats in 0 to 255 is
    cropped, resized to `size` squared, and normalised.

    Bicubic interpolation overshoots, and the official code then casts to uint8: what lies outside 0 to 255 is cut to a
    whole number and wraps around modulo 256, so bright edges hold black specks. Without `official_compat` it is
    clamped.
    """
    top, left, height, width = box
    cropped = clip[:, :, top : top + height, left : left + width].transpose(0, 1)
    resized = F.interpolate(cropped, size=(size, size), mode="bicubic", align_corners=False)
    # A cast of negative floats to uint8 is undefined in C++.
    whole = resized.to(torch.int32).remainder(256) if official_compat else resized.clamp(0, 255).to(torch.int32)
    return normalise(whole.float() / 255).transpose(0, 1)


def square_image(image: torch.Tensor, size: int) -> torch.Tensor:
    """`blip2_image_eval`: (H,W,C) uint8, squashed to `size` squared by PIL's bicubic filter, to normalised (C,H,W)."""
    return normalise(_to_tensor(_pil(image).resize((size, size), Image.Resampling.BICUBIC)))


def centre_crop(frames: torch.Tensor, size: int) -> torch.Tensor:
    """(T,H,W,C) uint8, short side to `size` by PIL's bicubic filter, then the centre, to normalised (T,C,size,size):
    what VideoChat2's demo and transformers' CLIPImageProcessor do."""
    return torch.stack([_crop_one(frame, size) for frame in frames])


def _crop_one(frame: torch.Tensor, size: int) -> torch.Tensor:
    image = _pil(frame)
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return normalise(_to_tensor(image.crop((left, top, left + size, top + size))))


def squash_nearest(frames: torch.Tensor, size: int = 224) -> torch.Tensor:
    """Video-ChatGPT (`eval/model_utils.py`, load_video): frames (T,H,W,C) uint8 that are not `size` squared are
    squashed to it by nearest-neighbour interpolation."""
    if frames.shape[1:3] == (size, size):
        return frames
    resized = F.interpolate(frames.permute(0, 3, 1, 2).float(), size=(size, size))
    return resized.permute(0, 2, 3, 1).to(torch.uint8)


def _pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.numpy())


def _to_tensor(image: Any) -> torch.Tensor:
    """(C,H,W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
