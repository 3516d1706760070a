"""Boxes of single frames joined to tracks: the same object from frame to frame, by overlap.

A greedy assignment by intersection over union, as SORT (Bewley et al. 2016, https://arxiv.org/abs/1602.00763) without
its motion model: at one or two frames a second motion is not smooth enough to predict.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from videollm.senses.boxes import box_iou
from videollm.senses.finding import Finding

LEAST_OVERLAP = 0.2  # of two boxes that are one object; at 2 frames a second a walking person moves by half their width
MISSED = 2  # frames that an object may be hidden for


@dataclass(frozen=True, slots=True)
class Detection:
    """An object in one frame. box: left, top, right, bottom as fractions of the picture."""

    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(slots=True)
class ObjectTrack:
    """One object over time. number counts from 1 in the order of appearance; times_s and detections are of one
    length."""

    number: int
    name: str
    times_s: list[float] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    missed: int = 0  # frames since it was last seen
    step_s: float = 0.0  # between two frames that were looked at

    @property
    def start_s(self) -> float:
        return self.times_s[0]

    @property
    def end_s(self) -> float:
        """When it is seen for the last time, and a frame's length after that."""
        return self.times_s[-1] + self.step_s

    @property
    def score(self) -> float:
        return sum(d.score for d in self.detections) / len(self.detections)

    @property
    def best(self) -> Detection:
        return max(self.detections, key=lambda d: d.score)

    @property
    def finding(self) -> Finding:
        return Finding(
            start_s=self.start_s,
            end_s=self.end_s,
            kind="object",
            text=self.name,
            score=self.score,
            box=self.best.box,
            track=self.number,
        )


class Tracker:
    """Takes the detections of one frame after the other."""

    def __init__(self) -> None:
        self.tracks: list[ObjectTrack] = []
        self._last = 0  # number of the latest track

    def add(self, time_s: float, detections: Sequence[Detection]) -> None:
        running = [t for t in self.tracks if t.missed <= MISSED]
        for track in running:
            track.missed += 1
        matched = set()
        for track, detection in self._matches(running, detections):
            track.times_s.append(time_s)
            track.detections.append(detections[detection])
            track.missed = 0
            matched.add(detection)
        for number, detection in enumerate(detections):
            if number not in matched:
                self._last += 1
                self.tracks.append(ObjectTrack(self._last, detection.name, [time_s], [detection]))

    def forget(self, before_s: float) -> None:
        """Drops what was seen before a time, so that memory is bounded where frames come without end."""
        for track in self.tracks:
            old = bisect_left(track.times_s, before_s)
            del track.times_s[:old], track.detections[:old]
        self.tracks = [track for track in self.tracks if track.times_s]

    @staticmethod
    def _matches(running: Sequence[ObjectTrack], detections: Sequence[Detection]) -> list[tuple[ObjectTrack, int]]:
        """Pairs of one name, those that overlap most first."""
        if not running or not detections:
            return []
        last = torch.tensor([t.detections[-1].box for t in running])
        overlap = box_iou(last, torch.tensor([d.box for d in detections]))
        pairs, tracks, boxes = [], set(), set()
        for at in overlap.flatten().argsort(descending=True).tolist():
            track, box = divmod(at, len(detections))
            if overlap[track, box] < LEAST_OVERLAP:
                break
            if track in tracks or box in boxes or running[track].name != detections[box].name:
                continue
            tracks.add(track)
            boxes.add(box)
            pairs.append((running[track], box))
        return pairs


def mot_lines(tracks: Sequence[ObjectTrack], width: int, height: int) -> list[str]:
    """Lines of the MOT challenge's format: frame, track, left, top, width, height in pixels, score, -1, -1, -1.

    Frames are those that were looked at, numbered from 1. https://motchallenge.net/instructions/
    """
    times = sorted({time_s for track in tracks for time_s in track.times_s})
    frame_of = {time_s: number for number, time_s in enumerate(times, 1)}
    rows = []
    for track in tracks:
        for time_s, detection in zip(track.times_s, track.detections, strict=True):
            left, top, right, bottom = detection.box
            place = [left * width, top * height, (right - left) * width, (bottom - top) * height]
            box = ",".join(f"{value:.2f}" for value in place)
            rows.append((frame_of[time_s], track.number, f"{box},{detection.score:.4f},-1,-1,-1\n"))
    return [f"{frame},{number},{rest}" for frame, number, rest in sorted(rows)]
