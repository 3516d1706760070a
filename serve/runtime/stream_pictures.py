"""Pictures of a stream's latest frames, which the page shows."""

import base64
from collections import deque
from io import BytesIO

import numpy as np
from PIL import Image

from videollm.live.reader import StreamFrame

KEPT = 64  # latest pictures of a stream, of about 15 kB each
JPEG_QUALITY = 72


class StreamPictures:
    """The latest frames of a stream as JPEG pictures. One thread adds them, any thread reads them."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, str]] = deque(maxlen=KEPT)

    def add(self, frame: StreamFrame) -> None:
        self._kept.append((frame.time, jpeg_url(frame.pixels.permute(1, 2, 0).numpy())))

    @property
    def latest(self) -> str:
        """The latest picture as a data: URL, empty if there is none."""
        return self._kept[-1][1] if self._kept else ""

    def at(self, time: float) -> str:
        """Returns the kept picture nearest to a time in seconds since 1970 as a data: URL, empty if there is none."""
        return min(list(self._kept), key=lambda kept: abs(kept[0] - time), default=(0.0, ""))[1]


def jpeg_url(pixels: np.ndarray) -> str:
    """Returns pixels uint8 (H,W,3) as the data: URL of a JPEG picture."""
    data = BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
