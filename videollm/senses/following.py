"""What a detector finds in frames, followed from one piece of them to the next.

Shapes: T pictures, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from videollm.senses.finding import Finding, Kind
from videollm.senses.tracks import Detection, ObjectTrack, Tracker
from videollm.video.frames import Frames

BATCH = 8  # pictures that a detector sees at a time
# An object is believed where it is seen this well in one frame and this well in the others; of 24 real clips one had a
# false person, none of six with people was missed.
BELIEVED, SEEN = 0.5, 0.35

# Objects in pictures (T,3,H,W) with a score of at least the second argument: name, score, box (4,) of each picture's.
DetectedObject = tuple[str, float, torch.Tensor]
Detect = Callable[[torch.Tensor, float], list[list[DetectedObject]]]


def detections(objects: Sequence[DetectedObject]) -> list[Detection]:
    """The objects of one picture for a `Tracker`."""
    return [Detection(name, score, tuple(box.tolist())) for name, score, box in objects]


class Following:
    """Follows what `detect` finds in frames that are added in order of time. kind: of the findings."""

    def __init__(self, detect: Detect, kind: Kind):
        self._detect, self._kind = detect, kind
        self._tracker, self._times = Tracker(), list[float]()

    def add(self, frames: Frames) -> None:
        for at in range(0, len(frames), BATCH):
            found = self._detect(frames.pixels[at : at + BATCH], SEEN)
            for time_s, objects in zip(frames.times_s[at : at + BATCH].tolist(), found, strict=True):
                self._times.append(time_s)
                self._tracker.add(time_s, detections(objects))

    @property
    def frames(self) -> int:
        """How many frames have been added."""
        return len(self._times)

    def tracks(self) -> list[ObjectTrack]:
        """What is believed to be there, in the order of appearance."""
        times = self._times
        step_s = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        # One frame is not enough where there are more: what flickers is mostly something else.
        least = min(2, len(times))
        believed = [t for t in self._tracker.tracks if len(t.times_s) >= least and t.best.score >= BELIEVED]
        for number, track in enumerate(believed, 1):
            track.number, track.step_s = number, step_s
        return believed

    def findings(self) -> list[Finding]:
        """One finding for each track."""
        return [replace(track.finding, kind=self._kind) for track in self.tracks()]
