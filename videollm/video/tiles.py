"""Pictures that are stored in tiles, as AVIF and HEIC store large ones.

FFmpeg gives each tile as a stream of its own. Pillow puts the tiles of AVIF together.
"""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from videollm.errors import VideoFormatError
from videollm.video.container import MAX_PIXELS

CONTAINER = "tiles"  # in place of FFmpeg's name of the format
DURATION_S = 0.04  # what FFmpeg says of other pictures


def read(path: str) -> np.ndarray:
    """Returns the whole picture as it is shown, uint8 (H,W,3).

    Raises VideoFormatError if the picture is too large, or its format is not AVIF.
    """
    try:
        with open(path, "rb") as file, Image.open(file, formats=("AVIF",)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width}x{picture.height}"
                raise VideoFormatError(path, f"the picture has {size} pixels; the limit is {MAX_PIXELS}")
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except UnidentifiedImageError as error:
        reason = "the picture is stored in tiles, which can be read in AVIF only; save it as JPEG or PNG"
        raise VideoFormatError(path, reason) from error


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture (H,W,3) in another size (width, height)."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
