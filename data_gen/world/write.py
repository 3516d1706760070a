"""Writes clips as H.264 files with real times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_gen.world.clip import WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.draw import frames

# Constant, because x264's rate control (crf) gave other bytes for the same frames about once in 200 clips.
_QUANTISER = 20
_KEY_FRAME_S = 2  # at most this long between frames that decoding can start from


def write_video(path: Path, clip: WorldClip, config: WorldConfig) -> None:
    """Stores each kept frame at its own time. The encoder's output depends on its number of threads, so it has one."""
    rate = 1 / clip.frame_s
    options = {
        "preset": "veryfast",
        "threads": "1",
        "bf": "0",
        "g": str(round(_KEY_FRAME_S * rate)),
        "qp": "0" if clip.lossless else str(_QUANTISER),
    }
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width = stream.height = config.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = clip.frame_s
        kept = clip.kept
        lasts = [*kept[1:], clip.frame_count]
        picture: np.ndarray
        for at, until, picture in zip(kept, lasts, frames(clip, config.size, config.photos, config.font), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.duration, frame.time_base = at, until - at, Fraction(clip.frame_s)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
