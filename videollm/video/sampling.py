"""The choice of frames, from the times of all frames to the numbers of the chosen ones.

A target time selects the frame that is shown then, which is the last one at or before it. F is the number of frames of
the file.
"""

import math

import numpy as np

from videollm.config import SamplingConfig
from videollm.errors import VideoRangeError
from videollm.video.frames import VideoInfo
from videollm.video.rules import RULES

KEYFRAME_REACH_S = 5.5  # x264 sets a key frame at least every 250 frames, which are 10.4 s at 24 frames a second
MAX_TARGETS = 10_000_000  # a number of times that is quick to compute
_TOLERANCE_S = 1e-6  # absorbs the rounding of k / fps, and is shorter than the clock tick of every container


def select(info: VideoInfo, times_s: np.ndarray, is_key: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Returns the numbers of the chosen frames, int64, strictly increasing, at least one.

    If several targets select one frame, fewer frames are returned than were requested.

    Args:
        info: The media file.
        times_s: Presentation times float64 (F,), increasing.
        is_key: bool (F,), True at key frames.
        config: Which frames to choose.

    Raises:
        VideoRangeError: If a requested time is outside the video, or no frame is in the requested part.
    """
    start_s, end_s = _range(info, config)
    if config.keyframes:
        inside = np.flatnonzero(is_key & (times_s >= start_s) & (times_s < end_s))
        if not len(inside):
            raise VideoRangeError(info.path, f"no key frame is between {start_s:.3f} and {end_s:.3f} s")
        count = min(len(inside), config.max_frames or len(inside))
        return inside[((np.arange(count) + 0.5) * len(inside) / count).astype(int)]
    if config.rule != "middle":
        assert config.frames is not None  # SamplingConfig allows no other case
        inside = np.flatnonzero((times_s >= start_s - _TOLERANCE_S) & (times_s < end_s + _TOLERANCE_S))
        if not len(inside):
            raise VideoRangeError(info.path, f"no frame is between {start_s:.3f} and {end_s:.3f} s")
        return np.unique(inside[RULES[config.rule](len(inside), config.frames)])
    targets = _targets(info, config, start_s, end_s)
    shown = np.maximum(np.searchsorted(times_s, targets + _TOLERANCE_S, side="right") - 1, 0)
    step_s = (end_s - start_s) / len(targets)
    if config.near_keyframes and step_s * (config.fps or 0) > 1:
        shown = _near_keyframes(shown, targets, times_s, is_key, max(step_s / 2, KEYFRAME_REACH_S))
    return np.unique(shown)


def _near_keyframes(
    shown: np.ndarray, targets: np.ndarray, times_s: np.ndarray, is_key: np.ndarray, reach_s: float
) -> np.ndarray:
    """Returns, for each target, the key frame nearest to it if that is nearer than `reach_s`, or else its `shown`."""
    keys = np.flatnonzero(is_key)
    after = np.searchsorted(times_s[keys], targets)
    left, right = keys[np.maximum(after - 1, 0)], keys[np.minimum(after, len(keys) - 1)]
    nearest = np.where(targets - times_s[left] < times_s[right] - targets, left, right)
    return np.where(np.abs(times_s[nearest] - targets) < reach_s, nearest, shown)


def _range(info: VideoInfo, config: SamplingConfig) -> tuple[float, float]:
    """Returns the start and end of the requested part in seconds. An end after that of the video is cut to it."""
    start_s = config.start_s or 0.0
    if start_s > 0 and start_s >= info.duration_s:
        raise VideoRangeError(info.path, f"start_s {start_s:g} must be before the end, {info.duration_s:.3f} s")
    return start_s, info.duration_s if config.end_s is None else min(config.end_s, info.duration_s)


def _targets(info: VideoInfo, config: SamplingConfig, start_s: float, end_s: float) -> np.ndarray:
    """Returns the target times in seconds, increasing."""
    if config.times_s is not None:
        outside = [t for t in config.times_s if not start_s <= t <= end_s]
        if outside:
            reason = f"times_s {', '.join(f'{t:g}' for t in outside)} must be within {start_s:g} to {end_s:.3f} s"
            raise VideoRangeError(info.path, reason)
        return np.sort(np.array(config.times_s, np.float64))
    count = config.frames
    if count is None:
        assert config.fps is not None  # SamplingConfig allows no other case
        by_rate = max(1, math.ceil((end_s - start_s) * config.fps - _TOLERANCE_S))
        if config.max_frames is None and by_rate > MAX_TARGETS:
            reason = f"fps {config.fps:g} asks for {by_rate} frames; the limit is {MAX_TARGETS}"
            raise VideoRangeError(info.path, reason)
        if config.max_frames is None or by_rate <= config.max_frames:
            return start_s + np.arange(by_rate) / config.fps
        count = config.max_frames
    return start_s + (np.arange(count) + 0.5) * (end_s - start_s) / count
