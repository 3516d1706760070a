"""Frames of many videos, decoded once into one memory-mapped file.

Shapes: V videos, T frames at most, S pixels.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from train.data.pairs import VideoInterval
from videollm.config import SamplingConfig
from videollm.encoders.images import RESIZE
from videollm.errors import VideoError
from videollm.video.decoding import decode

FRAMES_FILE, TIMES_FILE = "frames.npy", "times.npy"


@dataclass(frozen=True)
class FrameStore:
    """pixels: uint8 (V,T,3,S,S), memory-mapped. times_s: float64 (V,T), NaN behind a video's last frame. key: hash of
    everything that both follow from."""

    key: str
    parts: tuple[VideoInterval, ...]
    pixels: np.ndarray
    times_s: np.ndarray

    def batch(self, videos: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels uint8 (B,T,3,S,S) and the mask (B,T) of real frames."""
        return torch.from_numpy(self.pixels[videos]), torch.from_numpy(np.isfinite(self.times_s[videos]))


def frame_store(
    parts: Sequence[VideoInterval],
    *,
    fps: float | None,
    max_frames: int,
    size: int,
    cache: Path,
    resize: str = "shortest",
    threads: int = 2,
    strict: bool = True,
) -> FrameStore:
    """Decode the frames of many parts, or read them from `cache` where the same request was made before.

    A part gives `fps` frames a second, spread evenly over it where these exceed `max_frames`, and `max_frames` where
    fps is None. Frames are resized to `size` on their shorter side and cropped to the centre, or as another `resize` of
    `videollm.encoders.images.RESIZE` says. Raises VideoError, which names the file, for a file that cannot be read; if
    not `strict`, such a file has no frames, and its error is printed.
    """
    parts = tuple(dict.fromkeys(parts))
    sampling = SamplingConfig(fps=fps, max_frames=max_frames) if fps else SamplingConfig(frames=max_frames)
    stat = [os.stat(p.video) if p.video.exists() else None for p in parts]
    key = [
        [str(p.video.resolve()), p.start, p.end, s and [s.st_size, s.st_mtime_ns]]
        for p, s in zip(parts, stat, strict=True)
    ]
    asked = json.dumps([key, fps, max_frames, size, *([] if resize == "shortest" else [resize])])
    folder = cache / f"frames-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    if strict and folder.is_dir() and not np.isfinite(np.load(folder / TIMES_FILE, allow_pickle=False)[:, 0]).all():
        shutil.rmtree(folder)  # made without `strict`: reading the missing videos again raises the error
    if not folder.is_dir():
        _fill(folder, parts, sampling, max_frames, size, RESIZE[resize], threads, strict)
    pixels = np.load(folder / FRAMES_FILE, mmap_mode="r", allow_pickle=False)
    return FrameStore(folder.name, parts, pixels, np.load(folder / TIMES_FILE, allow_pickle=False))


def _fill(
    folder: Path,
    parts: Sequence[VideoInterval],
    sampling: SamplingConfig,
    max_frames: int,
    size: int,
    resize: Callable[[torch.Tensor, int], torch.Tensor],
    threads: int,
    strict: bool,
) -> None:
    shape = (len(parts), max_frames, 3, size, size)
    times = np.full(shape[:2], np.nan)
    with written_whole(folder) as unfinished, ThreadPoolExecutor(threads) as pool:
        pixels = np.lib.format.open_memmap(unfinished / FRAMES_FILE, "w+", np.uint8, shape)

        def read(row: int) -> None:
            part = parts[row]
            try:
                frames = decode(part.video, replace(sampling, start_s=part.start, end_s=part.end), short_side=size)
            except VideoError as error:
                if strict:
                    raise
                print(error, file=sys.stderr)
                return
            images = resize(frames.pixels, size).round().to(torch.uint8)
            pixels[row, : len(frames)], times[row, : len(frames)] = images.numpy(), frames.times_s.numpy()

        for _ in tqdm(pool.map(read, range(len(parts))), "decoding", len(parts), disable=None):
            pass
        pixels.flush()
        np.save(unfinished / TIMES_FILE, times)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yields a folder that gets the name `folder` once all is written.

    It is removed where that fails, or where another process has made the same meanwhile.
    """
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
