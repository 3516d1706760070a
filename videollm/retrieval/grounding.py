"""Temporal grounding without training: the spans of a video that a text describes.

Spans are found from the cosines between the frames and the text, and from what is said. Shapes: T frames.
"""

from dataclasses import dataclass

import torch

from videollm.encoders.base import FrameEncoder
from videollm.features.encode import EncodedVideo
from videollm.retrieval.queries import embed_text
from videollm.retrieval.words import TEXT_WEIGHT, folded

# The smallest difference between the mean scaled cosines of the frames inside and outside, as a difference of log-odds.
# Below it, the differences are taken for noise and the whole video is the answer.
MIN_CONTRAST = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a video, in seconds. `score` is the mean cosine of its frames with the text.

    `text` is the sentence that has all words of the text, whose score is `TEXT_WEIGHT` higher; "" for other spans.
    """

    start_s: float
    end_s: float
    score: float
    text: str = ""


def ground(video: EncodedVideo, query: str | torch.Tensor, encoder: FrameEncoder, k: int = 3) -> list[Span]:
    """Returns the k best spans for a text, the best first. Spans of frames do not overlap, and neither do sentences.

    The threshold of Otsu (1979) divides the cosines of the frames into high and low. The weight of a frame is its
    cosine minus the threshold, and the spans are the maximal scoring runs of weights (`maximal_runs`). If the frames
    are all alike, the only span is the whole video. A sentence among the video's findings is a span too if it has all
    words of the text.

    Args:
        video: The encoded video.
        query: The text, or its embedding (E,).
        encoder: The encoder of the video.
        k: The largest number of spans.

    Raises:
        ConfigError: If the query is empty.
    """
    embed = embed_text(query, encoder) if isinstance(query, str) else query
    cosines = video.features.embed.float().cpu() @ embed
    bounds_s = [*video.times_s.tolist(), video.end_s]
    threshold, contrast = otsu(cosines)
    runs = [(0, len(cosines))]
    if encoder.scale * contrast >= MIN_CONTRAST:
        runs = maximal_runs((cosines - threshold).tolist())
    spans = [Span(bounds_s[a], bounds_s[b], float(cosines[a:b].mean())) for a, b in runs]
    words = set(folded(query).split()) if isinstance(query, str) else set()
    for sentence in video.findings.of("speech"):
        if words and words <= set(folded(sentence.text).split()):
            shown = (video.times_s >= sentence.start_s) & (video.times_s < sentence.end_s)
            score = TEXT_WEIGHT + (float(cosines[shown].mean()) if shown.any() else 0.0)
            spans.append(Span(sentence.start_s, sentence.end_s, score, sentence.text))
    return sorted(spans, key=lambda span: -span.score)[:k]


def otsu(values: torch.Tensor) -> tuple[float, float]:
    """Returns the threshold that divides values (T,) into two classes with the largest variance between them, and the
    difference of the means of the classes (Otsu 1979, "A threshold selection method from gray-level histograms")."""
    ordered = values.double().sort().values
    below = torch.arange(1, len(ordered), dtype=torch.float64)
    if not len(below):
        return float(ordered[0]), 0.0
    sums = ordered.cumsum(0)
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(ordered) - below)
    best = int((below * (len(ordered) - below) * (high - low) ** 2).argmax())
    return float((ordered[best] + ordered[best + 1]) / 2), float(high[best] - low[best])


def maximal_runs(scores: list[float]) -> list[tuple[int, int]]:
    """Returns all maximal scoring runs [start, end) of scores.

    They are the run with the largest sum, then the runs with the largest sum on both sides of it, and so on (Ruzzo and
    Tompa 1999, "A linear time algorithm for finding all maximal scoring subsequences").
    """
    runs: list[tuple[int, int, float, float]] = []  # start, end, sum before it, sum up to its end
    total = 0.0
    for i, score in enumerate(scores):
        before, total = total, total + score
        if score <= 0:
            continue
        run = (i, i + 1, before, total)
        # A run is joined with the nearest earlier run that starts from a smaller sum, unless that run ends at a larger
        # one: then the scores between them cost more than joining gains.
        while True:
            j = next((j for j in reversed(range(len(runs))) if runs[j][2] < run[2]), None)
            if j is None or runs[j][3] >= run[3]:
                runs.append(run)
                break
            run = (runs[j][0], run[1], runs[j][2], run[3])
            del runs[j:]
    return [(start, end) for start, end, _, _ in runs]
