"""Objects: people and the other 79 things of COCO, where they are and how many of them there are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path

import torch

from videollm import assets
from videollm.config import SamplingConfig
from videollm.device import resolve_device
from videollm.senses.detector import SIDE, SSDMobileNetV2
from videollm.senses.finding import Finding
from videollm.senses.following import Following
from videollm.senses.tracks import ObjectTrack
from videollm.video.decoding import iter_frames
from videollm.video.frames import Frames

ASSET = "ssd-mobilenet-v2"


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
        following = self.following()
        for frames in pieces:
            following.add(frames)
        return following.tracks()

    def following(self) -> Following:
        """Follows objects in decoded frames that come one piece after the other."""
        return Following(self.detect, "object")

    def detect(self, pixels: torch.Tensor, least: float) -> list[list[tuple[str, float, torch.Tensor]]]:
        """The objects of each picture, uint8 (T,3,H,W), RGB. See `SSDMobileNetV2.detect`."""
        return self.model.detect(pixels.to(self.model.anchors.device), least)


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
