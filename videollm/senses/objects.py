"""Objects: people and the other 79 things of COCO, where they are and how many of them there are."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from pathlib import Path

import torch

from videollm import assets
from videollm.config import SamplingConfig
from videollm.device import resolve_device
from videollm.senses.detector import SIDE, SSDMobileNetV2
from videollm.senses.finding import Finding
from videollm.senses.tracks import Detection, ObjectTrack, Tracker
from videollm.video.decoding import iter_frames
from videollm.video.frames import Frames

ASSET = "ssd-mobilenet-v2"
BATCH = 8  # pictures that the detector sees at a time
# An object is believed where it is seen this well in one frame and this well in the others; of 24 real clips one had a
# false person, none of six with people was missed.
BELIEVED, SEEN = 0.5, 0.35


# Objects in pictures (T,3,H,W) with a score of at least the second argument: name, score, box (4,) of each picture's.
Detect = Callable[[torch.Tensor, float], list[list[tuple[str, float, torch.Tensor]]]]


class ObjectSense:
    """Finds objects in frames and follows them. Raises AssetError where the weights cannot be fetched."""

    kind = "object"
    short_side = SIDE

    def __init__(self, *, fps: float = 2.0, max_frames: int = 600, device: str | torch.device | None = None):
        """fps, max_frames: frames that are looked at, thinned evenly where there would be more than max_frames."""
        self.model = SSDMobileNetV2.load(assets.fetch(ASSET)).to(resolve_device(device))
        self.sampling = SamplingConfig(fps=fps, max_frames=max_frames, near_keyframes=True)

    def with_model(self, model: SSDMobileNetV2) -> "ObjectSense":
        """Returns the same sense with another detector."""
        other = copy(self)
        other.model = model
        return other

    def __call__(self, path: str | Path) -> list[Finding]:
        """One finding for each object, in the order of appearance. Raises the VideoError family."""
        return [track.finding for track in self.tracks(path)]

    def tracks(self, path: str | Path) -> list[ObjectTrack]:
        """The objects of a video, in the order of appearance. Raises the VideoError family."""
        return self.follow(iter_frames(path, self.sampling, short_side=self.short_side))

    def follow(self, pieces: Iterable[Frames]) -> list[ObjectTrack]:
        """The objects in decoded frames."""
        return follow(lambda pixels, least: self.model.detect(pixels.to(self.model.anchors.device), least), pieces)


def follow(detect: Detect, pieces: Iterable[Frames]) -> list[ObjectTrack]:
    """What `detect` finds in decoded frames, as tracks in the order of appearance."""
    tracker, times = Tracker(), []
    for frames in pieces:
        for at in range(0, len(frames), BATCH):
            found = detect(frames.pixels[at : at + BATCH], SEEN)
            for time_s, objects in zip(frames.times_s[at : at + BATCH].tolist(), found, strict=True):
                times.append(time_s)
                tracker.add(time_s, [Detection(n, s, tuple(box.tolist())) for n, s, box in objects])
    step_s = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    # One frame is not enough where there are more: what flickers is mostly something else.
    least = min(2, len(times))
    believed = [t for t in tracker.tracks if len(t.times_s) >= least and t.best.score >= BELIEVED]
    for number, track in enumerate(believed, 1):
        track.number, track.step_s = number, step_s
    return believed


def most_at_once(tracks: Sequence[ObjectTrack]) -> dict[str, int]:
    """How many objects of each name are in one frame together, at most."""
    frames: dict[float, Counter[str]] = {}
    for track in tracks:
        for time_s in track.times_s:
            frames.setdefault(time_s, Counter())[track.name] += 1
    counts: Counter[str] = Counter()
    for frame in frames.values():
        counts |= frame
    return dict(counts)
