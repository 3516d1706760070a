"""Tracks drawn on their video."""

import colorsys
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.utils import draw_bounding_boxes

from videollm.config import SamplingConfig
from videollm.senses.tracks import ObjectTrack
from videollm.video.decoding import iter_frames, probe
from videollm.video.writer import VideoWriter

FPS = 12.0  # of the drawn video
SHORT_SIDE = 480


def draw_tracks(video: str | Path, tracks: Sequence[ObjectTrack], target: Path) -> None:
    """Write `video`, without sound, with a box around every track. A box moves evenly between the times at which its
    object was seen. Raises the VideoError family."""
    info = probe(video)
    fps = min(FPS, info.fps or FPS)
    with VideoWriter(target, fps) as writer:
        for frames in iter_frames(video, SamplingConfig(fps=fps), short_side=SHORT_SIDE):
            for pixels, time_s in zip(frames.pixels, frames.times_s.tolist(), strict=True):
                writer.add_picture(_drawn(pixels, time_s, tracks), time_s)
        writer.finish(info.duration_s)


def box_at(track: ObjectTrack, time_s: float) -> tuple[float, ...] | None:
    """Where the object is, None before it is first seen and after it is last seen."""
    if not track.start_s <= time_s <= track.end_s:
        return None
    after = bisect_right(track.times_s, time_s)
    before = track.detections[after - 1].box
    if after == len(track.times_s):
        return before
    start, end = track.times_s[after - 1], track.times_s[after]
    share = (time_s - start) / (end - start)
    return tuple(a + share * (b - a) for a, b in zip(before, track.detections[after].box, strict=True))


def _drawn(pixels: torch.Tensor, time_s: float, tracks: Sequence[ObjectTrack]) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    shown = [(track, box) for track in tracks if (box := box_at(track, time_s)) is not None]
    if not shown:
        return pixels
    boxes = torch.tensor([box for _, box in shown]) * torch.tensor([width, height, width, height])
    labels = [f"{track.name} {track.number}" for track, _ in shown]
    return draw_bounding_boxes(pixels, boxes, labels, colors=[_colour(track.number) for track, _ in shown], width=3)


def _colour(number: int) -> tuple[int, int, int]:
    """A hue of its own for each track: steps of the golden ratio never come close to one another."""
    red, green, blue = colorsys.hsv_to_rgb(0.618034 * number % 1, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
