"""Choosing the shots of an index that show a text, for a montage of a given length."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.datasets.schema import format_time
from videollm.encoders.presence import near_to
from videollm.errors import ConfigError, VideoError
from videollm.features.segments import scene_cuts, thumbnails
from videollm.retrieval.fusion import fuse
from videollm.retrieval.index import Index
from videollm.retrieval.search import Moment, search
from videollm.video import pyav
from videollm.video.cutting import TOLERANCE_S, frames_between
from videollm.video.decoding import iter_frames
from videollm.video.montage import MontageShot

CANDIDATES = 200  # moments that are compared with each other
RELEVANT = 0.5  # least score of a moment, as a share of the best one's
RELEVANCE_WEIGHT = 0.5  # of the score, where the rest is the weight of being unlike what is chosen
LONGEST_S, SHORTEST_S = 5.0, 1.0  # of a shot
THUMBNAIL = 32  # pixels of the shorter side of what is compared to find cuts


def choose_shots(
    indexes: Sequence[Index], about: str | torch.Tensor, seconds: float
) -> tuple[list[MontageShot], list[tuple[str, str]]]:
    """Returns shots about a text, or like an embedding (E,), that last `seconds` together, and the files that cannot be
    read with the reasons.

    indexes: the rows of each model, see `Index.open_models`. An embedding needs those of one. The moments that each
    model takes, in the order in which it takes them, are joined by reciprocal-rank fusion (`fusion.fuse`).

    Moments are taken by maximal marginal relevance (Carbonell and Goldstein 1998): those that match the text, and are
    unlike those already taken. A moment that is not near the text (`encoders.presence`) and whose subtitles do not
    say it, or of less than half of the best score, is not taken, so that the shots may last less. A shot is the longest
    part of its moment without a cut, at most 5 s, and overlaps none before it. The shots are in the order of their
    videos and times, and those that follow each other are one.

    Raises ConfigError if the index is empty, or the text matches nothing.
    """
    rankings = [[*_by_marginal_relevance(index, _relevant(index, about))] for index in indexes]
    found = rankings[0] if len(rankings) == 1 else fuse(rankings, CANDIDATES)
    if not found:
        what = repr(about) if isinstance(about, str) else "it"
        raise ConfigError(f"no video of the index shows {what}; use other words, or index more videos")
    shots: list[MontageShot] = []
    problems: dict[str, str] = {}
    missing_s = seconds
    for moment in found:
        if missing_s < SHORTEST_S or moment.path in problems:
            continue
        try:
            shot = without_cut(moment, min(LONGEST_S, missing_s))
        except VideoError as error:
            problems[moment.path] = error.reason
            continue
        is_new = not any(_overlap(shot, other) for other in shots)
        if is_new and shot.end_s - shot.start_s >= min(SHORTEST_S, moment.end_s - moment.start_s):
            shots.append(shot)
            missing_s -= shot.end_s - shot.start_s
    return _joined(shots), list(problems.items())


def _overlap(one: MontageShot, other: MontageShot) -> bool:
    both_s = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    return one.path == other.path and both_s > 2 * TOLERANCE_S


def _relevant(index: Index, about: str | torch.Tensor) -> list[Moment]:
    """Returns the moments of one model that show it, the best first."""
    found = [moment for moment in search(index, about, CANDIDATES) if Path(moment.path).is_file()]
    if isinstance(about, str) and found:
        near = {number for number, _ in near_to(index.encoder, about, _vectors(index, found))}
        found = [moment for number, moment in enumerate(found) if number in near or moment.bonus]
    return [moment for moment in found if moment.score >= RELEVANT * found[0].score > 0]


def _by_marginal_relevance(index: Index, found: list[Moment]) -> Iterator[Moment]:
    """Yields the moments, each the best of those that are left."""
    if not found:
        return
    relevance = torch.tensor([moment.score for moment in found]) / found[0].score
    vectors = _vectors(index, found)
    likeness = vectors @ vectors.T
    nearest = torch.zeros(len(found))
    left = torch.ones(len(found), dtype=torch.bool)
    for _ in found:
        value = RELEVANCE_WEIGHT * relevance - (1 - RELEVANCE_WEIGHT) * nearest
        best = int(value.masked_fill(~left, -torch.inf).argmax())
        left[best] = False
        nearest = torch.maximum(nearest, likeness[best])
        yield found[best]


def _vectors(index: Index, found: list[Moment]) -> torch.Tensor:
    """Returns the embeddings (N,E) of moments of the index, of several vectors their mean."""
    vectors = index.vectors
    assert vectors is not None  # the moments come from it
    at = np.flatnonzero(np.isin(vectors.ids, np.array([moment.row for moment in found])))
    of_row: dict[int, list[int]] = {}
    for row, position in zip(vectors.ids[at].tolist(), at.tolist(), strict=True):
        of_row.setdefault(row, []).append(position)
    means = [vectors.rows[of_row[moment.row]].mean(0) for moment in found if moment.row is not None]
    return F.normalize(torch.stack(means), dim=-1)


def without_cut(moment: Moment, longest_s: float) -> MontageShot:
    """Returns the longest part of the middle `longest_s` of a moment in which no new scene starts.

    Raises a `VideoError` if the video cannot be read.
    """
    middle_s, half_s = (moment.start_s + moment.end_s) / 2, min(longest_s, moment.end_s - moment.start_s) / 2
    scan = pyav.scan(moment.path)
    first, after = frames_between(scan, middle_s - half_s, middle_s + half_s)
    sampling = SamplingConfig(times_s=tuple(scan.times_s[first:after].tolist()))
    small = [thumbnails(frames.pixels) for frames in iter_frames(moment.path, sampling, short_side=THUMBNAIL)]
    times_s = scan.times_s[first:after].tolist()
    starts = [times_s[0], *(times_s[number] for number in scene_cuts(torch.cat(small)))]
    parts = pairwise([*starts, middle_s + half_s])
    start_s, end_s = max(parts, key=lambda part: part[1] - part[0])
    title = f"{Path(moment.path).stem}  {format_time(start_s)}"
    return MontageShot(moment.path, start_s, end_s, title)


def _joined(shots: list[MontageShot]) -> list[MontageShot]:
    """Returns the shots by video and time, those that follow one another without a gap as one."""
    joined: list[MontageShot] = []
    for shot in sorted(shots, key=lambda shot: (shot.path, shot.start_s)):
        last = joined[-1] if joined else None
        if last is not None and last.path == shot.path and shot.start_s - last.end_s < TOLERANCE_S:
            joined[-1] = MontageShot(last.path, last.start_s, shot.end_s, last.title)
        else:
            joined.append(shot)
    return joined
