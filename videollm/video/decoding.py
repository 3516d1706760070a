"""The functions that read video files: `probe` describes a file, and `decode` and `iter_frames` return its frames with
the times at which they are shown."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch

from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoDecodeError
from videollm.sampling_config import Decoder
from videollm.video import decord_backend, pyav
from videollm.video.frames import Frames, VideoInfo
from videollm.video.sampling import select

# Each function yields the frames of a scanned file with the given numbers, in order and at (width, height), as uint8
# (height,width,3), or None for a frame that cannot be decoded.
_READERS: dict[Decoder, Callable[[pyav.Scan, np.ndarray, tuple[int, int]], Iterator[np.ndarray | None]]] = {
    "pyav": pyav.read,
    "decord": decord_backend.read,
}


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Returns what the file has, from its packets and its first picture.

    Raises:
        VideoNotFoundError: If the path does not exist or is not a file.
        VideoFormatError: If the file is not a video or image that can be opened.
        NoVideoStreamError: If the file has no video stream.
        VideoDecodeError: If no frame can be decoded.
    """
    return pyav.scan(path).info


def decode(
    path: str | os.PathLike[str],
    sampling: SamplingConfig,
    *,
    short_side: int | None = None,
) -> Frames:
    """Returns all sampled frames at once. The arguments and errors are those of `iter_frames`."""
    (frames,) = _chunks(path, sampling, short_side, chunk=None)
    return frames


def iter_frames(
    path: str | os.PathLike[str],
    sampling: SamplingConfig,
    *,
    short_side: int | None = None,
    chunk: int = 64,
) -> Iterator[Frames]:
    """Yields the sampled frames in pieces, so that memory does not grow with the video.

    `lost` of a piece counts the sampled frames that could not be decoded and, at the end of a file that is cut off, the
    frames that its header promises beyond the cut. Every piece has at least one frame.

    Args:
        path: The video file.
        sampling: Which frames to decode.
        short_side: The pixels of the shorter side of the frames, whose aspect ratio is kept. None keeps the size.
        chunk: The number of frames of a piece.

    Raises:
        VideoError: As `probe` raises it.
        VideoRangeError: If a requested time is outside the video.
        VideoDecodeError: If none of the sampled frames can be decoded, or the decoder cannot tell their times.
        ConfigError: If `short_side` or `chunk` is below 1.
    """
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}; it must be at least 1")
    return _chunks(path, sampling, short_side, chunk)


def _chunks(
    path: str | os.PathLike[str], sampling: SamplingConfig, short_side: int | None, chunk: int | None
) -> Iterator[Frames]:
    scan = pyav.scan(path)
    wanted = select(scan.info, scan.times_s, scan.is_key, sampling)
    width, height = _resized(scan.info, short_side)
    capacity = min(chunk or len(wanted), len(wanted))

    def chunk_of(pixels: np.ndarray, numbers: list[int], lost: int) -> Frames:
        return Frames(
            pixels=torch.from_numpy(pixels[: len(numbers)]),
            times_s=torch.from_numpy(scan.times_s[numbers]),
            info=scan.info,
            lost=lost,
        )

    pixels, numbers, lost = np.empty((capacity, 3, height, width), np.uint8), [], 0
    images = _READERS[sampling.decoder](scan, wanted, (width, height))
    for number, image in zip(wanted.tolist(), images, strict=True):
        if image is None:
            lost += 1
            continue
        # A full piece is yielded only when another frame follows, so that losses at the end count in the last piece.
        if len(numbers) == capacity:
            yield chunk_of(pixels, numbers, lost)
            pixels, numbers, lost = np.empty_like(pixels), [], 0
        pixels[len(numbers)] = image.transpose(2, 0, 1)
        numbers.append(number)
    if not numbers:
        raise VideoDecodeError(path, f"none of the {len(wanted)} sampled frames could be decoded")
    if sampling.times_s is None and (sampling.end_s is None or sampling.end_s >= scan.info.duration_s):
        lost += scan.missing
    yield chunk_of(pixels, numbers, lost)


def _resized(info: VideoInfo, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return info.width, info.height
    if short_side < 1:
        raise ConfigError(f"short_side is {short_side}; it must be at least 1 pixel")
    scale = short_side / min(info.width, info.height)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))
