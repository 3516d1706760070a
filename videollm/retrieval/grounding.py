"""When in a video a text holds: start and end, without training, from the frames' similarities to it.

T is the number of frames.
"""

from dataclasses import dataclass

import torch

from videollm.encoders.base import FrameEncoder
from videollm.features.encode import EncodedVideo
from videollm.retrieval.queries import embed_text

# The difference in log-odds between the frames inside and outside that is taken for one; below it, all are alike.
LEAST_CONTRAST = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """score: mean cosine of its frames with the text."""

    start_s: float
    end_s: float
    score: float


def ground(video: EncodedVideo, query: str, encoder: FrameEncoder, k: int = 3) -> list[Span]:
    """The k spans that match best, best first, apart from one another; the whole video where all of it is alike.

    A frame counts for a span by how far its cosine lies above a threshold and against it by how far below; the
    threshold is the one that parts the video's cosines best in two (Otsu 1979).
    """
    cosines = video.features.embed.float().cpu() @ embed_text(query, encoder)
    bounds_s = [*video.times_s.tolist(), video.end_s]
    threshold, contrast = otsu(cosines)
    runs = [(0, len(cosines))]
    if encoder.scale * contrast >= LEAST_CONTRAST:
        runs = maximal_runs((cosines - threshold).tolist())
    spans = [Span(bounds_s[a], bounds_s[b], float(cosines[a:b].mean())) for a, b in runs]
    return sorted(spans, key=lambda span: -span.score)[:k]


def otsu(values: torch.Tensor) -> tuple[float, float]:
    """The threshold that parts values (T,) in two with the most variance between them, and the difference of the two
    means. N. Otsu, "A threshold selection method from gray-level histograms", 1979."""
    ordered = values.double().sort().values
    below = torch.arange(1, len(ordered), dtype=torch.float64)
    if not len(below):
        return float(ordered[0]), 0.0
    sums = ordered.cumsum(0)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(ordered) - below)
    best = int((below * (len(ordered) - below) * (high - low) ** 2).argmax())
    return float((ordered[best] + ordered[best + 1]) / 2), float(high[best] - low[best])


def maximal_runs(scores: list[float]) -> list[tuple[int, int]]:
    """All maximal scoring runs [start, end): what remains when the run of the largest sum is taken, then the largest
    in what is left on either side, and so on. Linear in time: Ruzzo and Tompa, "A linear time algorithm for finding
    all maximal scoring subsequences", 1999."""
    runs: list[tuple[int, int, float, float]] = []  # start, end, sum before it, sum up to its end
    total = 0.0
    for i, score in enumerate(scores):
        before, total = total, total + score
        if score <= 0:
            continue
        run = (i, i + 1, before, total)
        while True:
            j = next((j for j in reversed(range(len(runs))) if runs[j][2] < run[2]), None)
            if j is None or runs[j][3] >= run[3]:
                runs.append(run)
                break
            run = (runs[j][0], run[1], runs[j][2], run[3])
            del runs[j:]
    return [(start, end) for start, end, _, _ in runs]
