"""Clips that tests encode themselves. Each picture says in its pixels which one it is."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

WIDTH, HEIGHT = 160, 120
_BITS = 8
_BAR = 24  # pixels of height, at the bottom


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 (height,width,3): a moving gradient over `number` as white and black squares, lowest bit first."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([(x + 5 * number) % 256, y * 255 // height, (x * 0 + 9 * number) % 256], -1).astype(np.uint8)
    for bit in range(_BITS):
        image[height - _BAR :, bit * width // _BITS : (bit + 1) * width // _BITS] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    """The number in a decoded (H,W,3) picture of the size it was made in."""
    height, width = image.shape[:2]
    centres = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    return sum(int(image[height - _BAR // 2, x].mean() > 127) << bit for bit, x in enumerate(centres))


def write_clip(
    path: Path,
    *,
    frames: int = 48,
    ticks: Sequence[int] | None = None,
    rate: int = 24,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotation: int = 0,
    mirrored: bool = False,
    pixel_aspect: Fraction | None = None,
    audio: bool = False,
    container: str | None = None,
    mux: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode pictures 0, 1, ... shown at `ticks` / rate seconds (default: one tick each)."""
    with av.open(str(path), "w", format=container, options=mux or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, rate)
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        sound = output.add_stream("aac", rate=44100) if audio else None
        output.start_encoding()  # a clip of no frames is a file too
        for number, tick in enumerate(ticks or range(frames)):
            frame = av.VideoFrame.from_ndarray(picture(number, *size))
            frame.pts, frame.time_base = tick, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound:
            write_sound(output, sound)
    return path


def write_sound(output, stream, seconds: float = 0.5) -> None:
    samples = np.zeros((2, 1024), np.float32)
    for start in range(0, int(seconds * 44100), 1024):
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def every_frame(path: Path) -> list[np.ndarray]:
    """All frames as they are stored, read straight through: what cleverer reading must equal."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return [
            frame.to_ndarray(format="rgb24", interpolation=Interpolation.BICUBIC) for frame in container.decode(stream)
        ]
