"""Writes clips as H.264 files with real times and, where events are heard, AAC."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_gen.world.clip import WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.draw import frames
from data_gen.world.sounds import RATE

# Constant, because x264's rate control (crf) gave other bytes for the same frames about once in 200 clips.
_QUANTISER = 20
_BIT_RATE = 64_000  # of the sound
_KEY_FRAME_S = 2  # at most this long between frames that decoding can start from


def write_video(path: Path, clip: WorldClip, config: WorldConfig, wave: np.ndarray | None = None) -> None:
    """Stores each kept frame at its own time. The encoder's output depends on its number of threads, so it has one.

    wave: The sound of the clip, float32 (N,) in [-1, 1] at `sounds.RATE`; None for a file without.
    """
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
        heard = None
        if wave is not None:
            heard = container.add_stream("aac", rate=RATE, layout="mono", options={"threads": "1"})
            heard.bit_rate = _BIT_RATE
            heard.codec_context.time_base = Fraction(1, RATE)
        kept = clip.kept
        lasts = [*kept[1:], clip.frame_count]
        picture: np.ndarray
        for at, until, picture in zip(kept, lasts, frames(clip, config.size, config.photos, config.font), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.duration, frame.time_base = at, until - at, Fraction(clip.frame_s)
            container.mux(stream.encode(frame))
            if heard is not None and wave is not None:  # beside the pictures that it is heard with
                start, end = (round(float(number * clip.frame_s) * RATE) for number in (at, until))
                container.mux(heard.encode(_sound(wave[start:end], start)))
        container.mux(stream.encode())
        if heard is not None:
            container.mux(heard.encode())


def _sound(samples: np.ndarray, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
    return frame
