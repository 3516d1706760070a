"""Videos that are copies of one another: encoded anew, resized or trimmed.

Copies look alike picture for picture, which features of meaning do not tell: two films of two cats have the same. So
frames are compared by perceptual hashes, at times that differ by one offset for the whole pair.

Shapes: T frames of a video, B bits of a hash.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.video.decode import iter_frames

FPS = 2.0
SIDE, LOW = 32, 8  # pixels a frame is shrunk to; frequencies a side that make the hash
LEAST_CONTRAST = 6.0  # standard deviation of brightness; frames of one colour have no picture to compare
MOST_BITS = 12  # of 63 that copies of a frame may differ in; unrelated frames differ in about 31
LEAST_SHARE = 0.6  # of the shorter video's frames that must have their copy


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """hashes (T,63) of +1 and -1, at times_s (T,); frames without contrast are left out."""

    path: str
    times_s: torch.Tensor
    hashes: torch.Tensor


@dataclass(frozen=True, slots=True)
class Copy:
    """first and second show the same: second's time is first's plus offset_s. share: of the frames of the one with
    fewer, how many have their copy in the other."""

    first: str
    second: str
    share: float
    offset_s: float


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Raises the VideoError family."""
    hashes, times = [], []
    for frames in iter_frames(path, SamplingConfig(fps=FPS), short_side=SIDE):
        grey = frames.pixels.float().mean(1, keepdim=True)  # (T,1,H,W)
        small = F.adaptive_avg_pool2d(grey, SIDE)[:, 0]
        clear = small.flatten(1).std(1) >= LEAST_CONTRAST
        hashes.append(perceptual_hashes(small[clear]))
        times.append(frames.times_s[clear])
    return Fingerprint(os.fspath(path), torch.cat(times), torch.cat(hashes))


def perceptual_hashes(grey: torch.Tensor) -> torch.Tensor:
    """Pictures (T,SIDE,SIDE) -> (T,63) of +1 and -1: whether each low frequency of the cosine transform lies above
    their median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010)."""
    places, frequencies = torch.arange(SIDE) + 0.5, torch.arange(LOW)[:, None]
    basis = torch.cos(torch.pi / SIDE * places * frequencies)  # (LOW,SIDE)
    spectrum = (basis @ grey @ basis.T).flatten(1)[:, 1:]
    return torch.where(spectrum > spectrum.median(1, keepdim=True).values, 1.0, -1.0)


def find_copies(fingerprints: Sequence[Fingerprint]) -> list[Copy]:
    """All pairs that share at least LEAST_SHARE of their frames at one offset."""
    found = []
    for i, first in enumerate(fingerprints):
        for second in fingerprints[i + 1 :]:
            if copy := _compare(first, second):
                found.append(copy)
    return found


def _compare(first: Fingerprint, second: Fingerprint) -> Copy | None:
    shorter = min(len(first.times_s), len(second.times_s))
    bits = first.hashes.shape[1]
    alike = first.hashes @ second.hashes.T >= bits - 2 * MOST_BITS  # (T1,T2)
    a, b = alike.nonzero(as_tuple=True)
    if len(a) < LEAST_SHARE * shorter or not shorter:
        return None
    # Half a sampling step is the most that two samplings of one film are apart.
    steps = ((second.times_s[b] - first.times_s[a]) * 2 * FPS).round().long()
    best = (0, 0)
    for step in steps.unique().tolist():
        at = (steps - step).abs() <= 1
        best = max(best, (min(len(a[at].unique()), len(b[at].unique())), step))
    count, step = best
    share = min(1.0, count / shorter)
    return Copy(first.path, second.path, share, step / (2 * FPS)) if share >= LEAST_SHARE else None


def groups(copies: Sequence[Copy]) -> list[list[str]]:
    """Paths that are copies of one another, directly or through others."""
    group: dict[str, set[str]] = {}
    for copy in copies:
        joined = group.get(copy.first, {copy.first}) | group.get(copy.second, {copy.second})
        group |= dict.fromkeys(joined, joined)
    return sorted({id(g): sorted(g) for g in group.values()}.values())
