"""Finds videos that are copies of each other: re-encoded, resized or trimmed.

Copies show the same pictures. Embeddings of meaning cannot tell this, because two films of two cats have similar
embeddings. Therefore frames are compared by perceptual hashes, and the matching frames of a pair must all differ in
time by the same offset.

Shapes: T frames of a video, 63 bits of a hash.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.video.decoding import iter_frames

FPS = 2.0  # frames per second that are hashed
SIDE, FREQUENCIES = 32, 8  # side of the reduced frame in pixels; low frequencies per axis that form the hash
# The smallest standard deviation of brightness, 0 to 255, of a frame that is hashed: the hash of a plain black frame is
# noise, and black frames are in most videos.
MIN_CONTRAST = 6.0
MAX_DIFFERING_BITS = 12  # of 63 bits, between copies of a frame; unrelated frames differ in about 31
MIN_SHARE = 0.6  # share of the frames of the shorter video that must have a copy


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The perceptual hashes of a video.

    Attributes:
        path: The video.
        times_s: The times (T,) of the hashed frames, in seconds. Frames without contrast are left out.
        hashes: The hashes (T,63), float +1 and -1, so that a product counts equal bits.
    """

    path: str
    times_s: torch.Tensor
    hashes: torch.Tensor


@dataclass(frozen=True, slots=True)
class Copy:
    """A pair of videos that show the same.

    Attributes:
        first, second: The paths.
        share: The share of the frames of the shorter video that have a copy in the other, 0 to 1.
        offset_s: The time in `second` minus the time in `first` of the same picture, in seconds.
    """

    first: str
    second: str
    share: float
    offset_s: float


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Hashes the frames of a video. Raises a `VideoError` if it cannot be read."""
    hashes, times = [], []
    for frames in iter_frames(path, SamplingConfig(fps=FPS), short_side=SIDE):
        grey = frames.pixels.float().mean(1, keepdim=True)  # (T,1,H,W)
        small = F.adaptive_avg_pool2d(grey, SIDE)[:, 0]
        clear = small.flatten(1).std(1) >= MIN_CONTRAST
        hashes.append(perceptual_hashes(small[clear]))
        times.append(frames.times_s[clear])
    return Fingerprint(os.fspath(path), torch.cat(times), torch.cat(hashes))


def perceptual_hashes(grey: torch.Tensor) -> torch.Tensor:
    """Returns the hashes (T,63), +1 and -1, of grey images (T,SIDE,SIDE).

    A bit says whether a low frequency of the cosine transform of the image is above the median of all of them (Zauner
    2010, "Implementation and benchmarking of perceptual image hash functions").
    """
    places, frequencies = torch.arange(SIDE) + 0.5, torch.arange(FREQUENCIES)[:, None]
    basis = torch.cos(torch.pi / SIDE * places * frequencies)  # (FREQUENCIES,SIDE)
    spectrum = (basis @ grey @ basis.T).flatten(1)[:, 1:]  # without frequency 0, the mean brightness
    return torch.where(spectrum > spectrum.median(1, keepdim=True).values, 1.0, -1.0)


def find_copies(fingerprints: Sequence[Fingerprint]) -> list[Copy]:
    """Returns all pairs of videos with the same pictures in at least `MIN_SHARE` of their frames at one offset."""
    found = []
    for i, first in enumerate(fingerprints):
        for second in fingerprints[i + 1 :]:
            if copy := _compare(first, second):
                found.append(copy)
    return found


def _compare(first: Fingerprint, second: Fingerprint) -> Copy | None:
    shorter = min(len(first.times_s), len(second.times_s))
    bits = first.hashes.shape[1]
    # The product of two hashes is the number of equal bits minus the number of differing bits.
    alike = first.hashes @ second.hashes.T >= bits - 2 * MAX_DIFFERING_BITS  # (T1,T2)
    a, b = alike.nonzero(as_tuple=True)
    if len(a) < MIN_SHARE * shorter or not shorter:
        return None
    # Offsets are counted in half sampling steps, because two samplings of one film differ by at most half a step.
    steps = ((second.times_s[b] - first.times_s[a]) * 2 * FPS).round().long()
    best = (0, 0)
    for step in steps.unique().tolist():
        at = (steps - step).abs() <= 1  # pairs at this offset, up to half a sampling step
        # Each frame counts once, even if a still scene makes it similar to many frames.
        best = max(best, (min(len(a[at].unique()), len(b[at].unique())), step))
    count, step = best
    share = min(1.0, count / shorter)
    return Copy(first.path, second.path, share, step / (2 * FPS)) if share >= MIN_SHARE else None


def groups(copies: Sequence[Copy]) -> list[list[str]]:
    """Returns groups of paths that are copies of each other, directly or through other copies."""
    group: dict[str, set[str]] = {}
    for copy in copies:
        joined = group.get(copy.first, {copy.first}) | group.get(copy.second, {copy.second})
        group |= dict.fromkeys(joined, joined)
    return sorted({id(g): sorted(g) for g in group.values()}.values())
