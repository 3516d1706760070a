"""People and things in a stream: found in its frames, and followed while it lasts.

Shapes: T frames, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from videollm.senses.finding import Finding, Findings
from videollm.senses.following import BELIEVED, SEEN, detections
from videollm.senses.objects import ObjectSense
from videollm.senses.tracks import ObjectTrack, Tracker

SENSE = "objects"
KEPT_S = 60.0  # before the segment that is not complete: for so long it is known that an object was believed
MOST = 64  # findings of a merged segment


class LiveObjects:
    """Finds and follows objects in frames that come without end.

    Args:
        sense: What finds objects in a picture.
        fps: The rate at which frames come.
    """

    def __init__(self, sense: ObjectSense, fps: float):
        self._detect, self._step, self._tracker = sense.detect, 1 / fps, Tracker()

    def see(self, pixels: torch.Tensor, times: Sequence[float]) -> list[dict[str, float]]:
        """Looks at frames uint8 (T,3,H,W). Returns the best score of each name in each of them."""
        seen = []
        for time, objects in zip(times, self._detect(pixels, SEEN), strict=True):
            found = detections(objects)
            self._tracker.add(time, found)
            seen.append({d.name: d.score for d in sorted(found, key=lambda d: d.score)})
        return seen

    def between(self, start: float, end: float) -> Findings:
        """Returns a finding for each object that is believed to be there from `start` to `end`, in that time.

        Times are those of the frames, in seconds since 1970. One frame is not enough to believe in an object, as in
        `videollm.senses.following`.
        """
        parts = (self._part(track, start, end) for track in self._tracker.tracks)
        found = sorted((part for part in parts if part is not None), key=lambda f: f.start_s)
        return Findings(senses=(SENSE,), found=tuple(found))

    def forget(self, before: float) -> None:
        """Forgets what was seen more than `KEPT_S` before a time."""
        self._tracker.forget(before - KEPT_S)

    def _part(self, track: ObjectTrack, start: float, end: float) -> Finding | None:
        inside = [n for n, time in enumerate(track.times_s) if start <= time < end]
        if not inside or len(track.times_s) < 2 or track.best.score < BELIEVED:
            return None
        last = min(track.times_s[inside[-1]] + self._step, end)
        seen = slice(inside[0], inside[-1] + 1)
        part = replace(track, times_s=track.times_s[seen], detections=track.detections[seen])
        return replace(part.finding, end_s=last)


def merged(first: Findings, second: Findings) -> Findings:
    """Returns what was found in two parts of a stream that follow one another. An object of both is one finding."""
    tracks = {f.track: f for f in first.found}
    for later in second.found:
        before = tracks.get(later.track)
        tracks[later.track] = later if before is None else _joined(before, later)
    best = sorted(tracks.values(), key=lambda f: f.end_s - f.start_s)[-MOST:]
    return replace(second, found=tuple(sorted(best, key=lambda f: f.start_s)))


def _joined(first: Finding, second: Finding) -> Finding:
    lengths = [f.end_s - f.start_s for f in (first, second)]
    score = (first.score * lengths[0] + second.score * lengths[1]) / max(sum(lengths), 1e-9)
    return replace(first, end_s=second.end_s, score=score, box=max((first, second), key=lambda f: f.score).box)
