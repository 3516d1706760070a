"""Cutting sampled frames into segments, by time or at scene changes. T is the number of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from videollm.config import SegmentConfig

_THUMBNAIL = 32  # pixels a side; enough for colours, and an hour of frames stays small
_BINS = 8  # of a colour channel
_WINDOW = 2  # neighbouring differences on each side that a change is compared with
_RATIO = 3.0
_LEAST = 0.35  # share of pixels that must change colour


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames that follow one another, shown from start_s (its first frame's time) to end_s, where the next starts."""

    start_s: float
    end_s: float
    frames: slice


def segment(times_s: torch.Tensor, config: SegmentConfig, *, end_s: float, cuts: Sequence[int] = ()) -> list[Segment]:
    """Segments of at most `config.frames` frames that together hold every frame once, in order.

    times_s float64 (T,), increasing. end_s: where the last segment ends, such as the video's duration. cuts: numbers of
    the frames that start a new scene (`scene_cuts`), where config.by is "scene". A scene of more frames is divided
    evenly.
    """
    bounds = [0, *(cuts if config.by == "scene" else ()), len(times_s)]
    starts = []
    for first, last in pairwise(bounds):
        if config.by == "time":
            starts += range(first, last, config.frames)
        else:
            parts = -(-(last - first) // config.frames)
            starts += [first + part * (last - first) // parts for part in range(parts)]
    ends = [*starts[1:], len(times_s)]
    begin_s = times_s[starts].tolist()
    return [
        Segment(begin_s[i], begin_s[i + 1] if i + 1 < len(starts) else end_s, slice(starts[i], ends[i]))
        for i in range(len(starts))
    ]


def merge_segments(segments: list[Segment], n: int) -> list[Segment]:
    """At most n segments: neighbours joined, as evenly as can be."""
    if len(segments) <= n:
        return segments
    bounds = [part * len(segments) // n for part in range(n + 1)]
    groups = [segments[first:last] for first, last in pairwise(bounds)]
    return [Segment(g[0].start_s, g[-1].end_s, slice(g[0].frames.start, g[-1].frames.stop)) for g in groups]


def thumbnails(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (T,3,H,W) -> uint8 (T,3,h,w), small enough to keep those of a long video for `scene_cuts`."""
    if max(pixels.shape[2:]) <= _THUMBNAIL:
        return pixels
    return F.adaptive_avg_pool2d(pixels.float(), _THUMBNAIL).round().to(torch.uint8)


def scene_cuts(pixels: torch.Tensor) -> list[int]:
    """Numbers of the frames that start a new scene, increasing, never 0. pixels: uint8 (T,3,H,W) or `thumbnails`.

    The difference of two neighbouring frames is that of their colour histograms (Zhang, Kankanhalli and Smoliar,
    "Automatic partitioning of full-motion video", 1993), which ignores motion within a scene. A change is a cut where
    it stands out from the changes around it, as in PySceneDetect's AdaptiveDetector: at least 3 times their mean.
    """
    if len(pixels) < 2:
        return []
    levels = thumbnails(pixels).flatten(2).long() * _BINS // 256  # (T,3,P)
    colours = (levels[:, 0] * _BINS + levels[:, 1]) * _BINS + levels[:, 2]
    histograms = torch.zeros(len(colours), _BINS**3).scatter_add_(1, colours, torch.ones(colours.shape))
    changes = (histograms[1:] - histograms[:-1]).abs().sum(1) / (2 * colours.shape[1])  # (T-1,), in [0, 1]
    around = F.pad(changes, (_WINDOW, _WINDOW)).unfold(0, 2 * _WINDOW + 1, 1).sum(1) - changes
    count = F.pad(torch.ones_like(changes), (_WINDOW, _WINDOW)).unfold(0, 2 * _WINDOW + 1, 1).sum(1) - 1
    is_cut = (changes >= _LEAST) & (changes * count >= _RATIO * around)
    return (is_cut.nonzero().flatten() + 1).tolist()
