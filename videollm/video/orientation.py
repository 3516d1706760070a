"""The rotation and mirroring that a file asks for when its frames are shown."""

from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame

# PyAV 18 frees the name of a colour profile twice when it has listed the side data of a frame, which ends the process.
# FFmpeg's decoders give a name to the profiles of these formats alone.
_NAMED_PROFILES = {"png", "apng"}


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned to be shown: transposed first, then flipped.

    Only axis-aligned display matrices are supported. Any other angle is rounded to the nearest of them, as players do.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotation: int = 0  # degrees clockwise

    @property
    def is_mirrored(self) -> bool:
        return self.transpose ^ self.flip_x ^ self.flip_y

    @classmethod
    def of(cls, frame: VideoFrame, codec: str) -> "Orientation":
        """Returns the orientation that FFmpeg's display matrix describes. codec: the name of the frame's decoder.

        The matrix shows a stored point (x, y) at (a x + c y, b x + d y), y downwards.
        """
        if codec in _NAMED_PROFILES:
            return cls._rotated(frame)
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV 18 lists no side data where it does not know all kinds, such as a photo's EXIF
            return cls._rotated(frame)
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0, 180 if a < 0 and d < 0 else 0)
        return cls(True, c < 0, b < 0, 90 if b > 0 else 270)

    @classmethod
    def _rotated(cls, frame: VideoFrame) -> "Orientation":
        clockwise = round(-frame.rotation / 90) * 90 % 360
        return cls(clockwise in (90, 270), clockwise in (90, 180), clockwise in (180, 270), clockwise)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Returns a view of an image (H,W,3) as it is shown."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
