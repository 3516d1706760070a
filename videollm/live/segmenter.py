"""Cuts a stream into segments while it lasts, as `videollm.features.segments` cuts a file.

Shapes: T frames, H and W pixels.
"""

from collections.abc import Sequence

import torch

from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder, FrameFeatures
from videollm.features.segments import scene_cuts, thumbnails
from videollm.live.memory import LiveSegment, tags_of

GAP_FRAMES = 4.0  # a segment ends where so many frames are missing


class LiveSegmenter:
    """Collects frames until a segment is complete: when it lasts as long as the model's segments do, at a scene change,
    or where the stream was interrupted.

    fps: the rate at which frames come.
    """

    def __init__(self, encoder: FrameEncoder, config: ModelConfig, fps: float):
        self._encoder, self._config, self._fps = encoder, config, fps
        rate = config.sampling.fps or fps
        self._length_s = config.segments.frames / rate
        self._times: list[float] = []
        self._features: list[FrameFeatures] = []
        self._small: list[torch.Tensor] = []

    def add(self, pixels: torch.Tensor, times: Sequence[float], features: FrameFeatures) -> list[LiveSegment]:
        """Takes frames uint8 (T,3,H,W) at wall-clock times with their features, and returns the segments that are
        complete now."""
        made = []
        for number, (time, small) in enumerate(zip(times, thumbnails(pixels), strict=True)):
            if self._times and self._ends_before(time, small):
                made.append(self._close(time))
            self._times.append(time)
            self._features.append(features[number : number + 1])
            self._small.append(small)
        return made

    def open_segment(self) -> LiveSegment | None:
        """Returns the segment that is not complete yet, None if it has no frame."""
        return self._segment(self._times[-1] + 1 / self._fps) if self._times else None

    def finish(self) -> list[LiveSegment]:
        """Ends the open segment, because the stream has ended or was lost."""
        return [self._close(self._times[-1] + 1 / self._fps)] if self._times else []

    def _ends_before(self, time: float, small: torch.Tensor) -> bool:
        if time - self._times[-1] > GAP_FRAMES / self._fps:
            return True
        if len(self._times) >= self._config.segments.frames or time >= self._times[0] + self._length_s - 1e-3:
            return True
        if self._config.segments.by != "scene" or small.shape != self._small[-1].shape:
            return False
        frames = torch.stack([*self._small, small])
        return len(frames) - 1 in scene_cuts(frames)

    def _close(self, next_time: float) -> LiveSegment:
        segment = self._segment(min(next_time, self._times[-1] + GAP_FRAMES / self._fps))
        self._times, self._features, self._small = [], [], []
        return segment

    def _segment(self, end: float) -> LiveSegment:
        features = FrameFeatures.cat(self._features)
        tags = tags_of(features, self._encoder.vocabulary, self._config.prompt)
        times = torch.tensor(self._times, dtype=torch.float64)
        return LiveSegment(self._times[0], end, times, features, tags)
