"""Decodes the sound of a source to pieces that speech recognition reads. Nothing here imports torch, which would take
300 MB in each process that reads a source.

Shapes: S samples.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from videollm.video.container import TOLERANCE_S

PIECE_S = 1.0


class SoundDecoder:
    """Decodes packets to mono int16, in pieces of `PIECE_S` or less where the sound is interrupted.

    context: The codec context of the audio stream. rate: The samples per second that the sound is converted to.
    """

    def __init__(self, context: Any, rate: int):
        self._context, self._rate = context, rate
        self._begin()

    def add(self, packet: Any, shift_s: float) -> Iterator[tuple[float, np.ndarray]]:
        """Yields complete pieces: the time of the first sample, and the samples (S,).

        shift_s: What is added to the timestamps of the packet.
        """
        try:
            frames = self._context.decode(packet)
        except FFmpegError:  # a damaged packet leaves a gap
            return
        for frame in frames:
            if frame.time is None:
                continue
            time = frame.time + shift_s
            if self._start is not None and abs(time - self._end_s) > TOLERANCE_S:
                yield from self.end()
            if self._start is None:
                self._start = self._end_s = time
            self._end_s += frame.samples / frame.sample_rate
            frame.pts = None  # the resampler would fill gaps by its own rule
            self._keep(self._resampler.resample(frame))
            if self._count >= PIECE_S * self._rate:
                yield self._take()

    def end(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yields the last piece, and expects that what comes next does not follow it."""
        if self._start is not None:
            self._keep(self._resampler.resample(None))
            if self._count:
                yield self._take()
        self._begin()

    def _begin(self) -> None:
        self._resampler = AudioResampler(format="s16", layout="mono", rate=self._rate)
        self._start: float | None = None  # time of the first sample that is held
        self._end_s = 0.0  # time at which the next frame is expected
        self._held: list[np.ndarray] = []

    @property
    def _count(self) -> int:
        return sum(map(len, self._held))

    def _keep(self, frames: list[Any]) -> None:
        self._held += [frame.to_ndarray()[0] for frame in frames]

    def _take(self) -> tuple[float, np.ndarray]:
        assert self._start is not None
        time, samples = self._start, np.concatenate(self._held)
        self._start, self._held = time + len(samples) / self._rate, []
        return time, samples
