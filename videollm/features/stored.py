"""Number formats in which frame features are kept on disk.

Patch tokens are nearly all of a video's features, so only they are ever kept in 8 bits; what tags and search compare
(`embed`, `concepts`) is kept in float16 at the smallest.

With float8 (e4m3: 3 bits of mantissa), each frame's tokens are divided by a scale that brings their largest value to
448, the largest number of the format. A value x of a frame whose largest value is m comes back within
max(|x| / 16, m / 450,000): half a step of the mantissa, or half of the smallest number for values near zero.
"""

from typing import Literal, get_args

import torch

from videollm.encoders.base import FrameEncoder

StoredDtype = Literal["auto", "float32", "float16", "float8"]

FLOAT8 = torch.float8_e4m3fn
_SCALE = "tokens_scale"  # (T,1,1): beside tokens in float8
_EXACT = ("times_s", "audio_times_s")  # half a second of a long video must stay half a second


def pack(tensors: dict[str, torch.Tensor], dtype: StoredDtype) -> dict[str, torch.Tensor]:
    """The tensors of an encoded video, `tokens` (T,N,D) among them, in the number format they are kept in.

    "auto" keeps them as the encoder made them.
    """
    assert dtype in get_args(StoredDtype)
    if dtype == "auto":
        return tensors
    narrow = torch.float32 if dtype == "float32" else torch.float16
    limit = torch.finfo(narrow).max
    packed = {k: x if k in _EXACT else x.clamp(-limit, limit).to(narrow) for k, x in tensors.items()}
    if dtype == "float8":
        tokens = tensors["tokens"].float()
        # A frame of zeros has no scale of its own; any scale but 0 gives it back.
        scale = tokens.abs().amax((1, 2), keepdim=True).clamp(min=1e-12) / torch.finfo(FLOAT8).max
        packed |= {"tokens": (tokens / scale).to(FLOAT8), _SCALE: scale}
    return packed


def unpack(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `pack` was given, up to rounding: tokens in float8 come back in float32, the rest as it is kept."""
    if _SCALE not in tensors:
        return tensors
    rest = {k: x for k, x in tensors.items() if k != _SCALE}
    return rest | {"tokens": tensors["tokens"].float() * tensors[_SCALE]}


@torch.inference_mode()
def bytes_per_frame(encoder: FrameEncoder, dtype: StoredDtype) -> int:
    """What one frame takes on disk, from the features of a black frame."""
    side = encoder.image_size
    features = encoder.encode_frames(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    kept = pack({"tokens": features.tokens, "embed": features.embed, "concepts": features.concepts}, dtype)
    return sum(x.numel() * x.element_size() for x in kept.values())
