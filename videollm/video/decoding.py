"""The functions that read video files: `probe` describes a file; `decode`, `iter_frames` and `iter_views` return frames
with the times at which they are shown."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoDecodeError
from videollm.sampling_config import Decoder
from videollm.video import decord_backend, pyav
from videollm.video.frames import Frames, VideoInfo
from videollm.video.sampling import select

# Each function yields the frames of a scanned file for each view, which has the numbers of its frames and their (width,
# height): the number of the view and uint8 (height,width,3), or None for a frame that cannot be decoded.
_Reader = Callable[[pyav.Scan, Sequence[tuple[np.ndarray, tuple[int, int]]]], Iterator[tuple[int, np.ndarray | None]]]
_READERS: dict[Decoder, _Reader] = {"pyav": pyav.read, "decord": decord_backend.read}


@dataclass(frozen=True, slots=True)
class View:
    """Frames of a video.

    Args:
        sampling: Which frames.
        short_side: The pixels of the shorter side of the frames, whose aspect ratio is kept. None keeps the size.
    """

    sampling: SamplingConfig
    short_side: int | None = None


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
    ((_, frames),) = _pieces(path, [View(sampling, short_side)], chunk=None)
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
    return (frames for _, frames in iter_views(path, [View(sampling, short_side)], chunk=chunk))


def iter_views(path: str | os.PathLike[str], views: Sequence[View], *, chunk: int = 64) -> Iterator[tuple[int, Frames]]:
    """Yields what `iter_frames` yields for each view, with the number of the view. The video is decoded once.

    The pieces of a view come in order of time, between those of the others. Errors are those of `iter_frames`.
    """
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}; it must be at least 1")
    return _pieces(path, views, chunk)


def _pieces(path: str | os.PathLike[str], views: Sequence[View], chunk: int | None) -> Iterator[tuple[int, Frames]]:
    scan = pyav.scan(path)
    pieces = [_Pieces(scan, view, chunk) for view in views]
    for decoder, reader in _READERS.items():
        numbers = [n for n, view in enumerate(views) if view.sampling.decoder == decoder]
        for place, image in reader(scan, [(pieces[n].wanted, pieces[n].size) for n in numbers]) if numbers else ():
            if (frames := pieces[numbers[place]].add(image)) is not None:
                yield numbers[place], frames
        yield from ((n, pieces[n].last()) for n in numbers)


class _Pieces:
    """Collects the decoded frames of a view to pieces of `chunk` frames, None: to one."""

    def __init__(self, scan: pyav.Scan, view: View, chunk: int | None):
        self.scan, self.sampling = scan, view.sampling
        self.wanted = select(scan.info, scan.times_s, scan.is_key, view.sampling)
        self.size = _resized(scan.info, view.short_side)
        self._wanted = iter(self.wanted.tolist())
        width, height = self.size
        self._shape = (min(chunk or len(self.wanted), len(self.wanted)), 3, height, width)
        self._start()

    def _start(self) -> None:
        self._pixels, self._numbers, self._lost = np.empty(self._shape, np.uint8), list[int](), 0

    def add(self, image: np.ndarray | None) -> Frames | None:
        """Takes the next frame, and returns the piece before it if that is full."""
        number = next(self._wanted)
        if image is None:
            self._lost += 1
            return None
        # A full piece is returned only when another frame follows, so that losses at the end count in the last piece.
        full = None
        if len(self._numbers) == len(self._pixels):
            full = self._frames()
            self._start()
        self._pixels[len(self._numbers)] = image.transpose(2, 0, 1)
        self._numbers.append(number)
        return full

    def last(self) -> Frames:
        """Returns the piece at the end. Raises VideoDecodeError if no frame could be decoded."""
        info = self.scan.info
        if not self._numbers:
            raise VideoDecodeError(info.path, f"none of the {len(self.wanted)} sampled frames could be decoded")
        if self.sampling.times_s is None and (self.sampling.end_s is None or self.sampling.end_s >= info.duration_s):
            self._lost += self.scan.missing
        return self._frames()

    def _frames(self) -> Frames:
        return Frames(
            pixels=torch.from_numpy(self._pixels[: len(self._numbers)]),
            times_s=torch.from_numpy(self.scan.times_s[self._numbers]),
            info=self.scan.info,
            lost=self._lost,
        )


def _resized(info: VideoInfo, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return info.width, info.height
    if short_side < 1:
        raise ConfigError(f"short_side is {short_side}; it must be at least 1 pixel")
    scale = short_side / min(info.width, info.height)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))
