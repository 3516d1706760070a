"""Evidence: whether the segments that an answer cites show what the question is about."""

import math
from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction, Span
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.spans import shared_length, union_length
from videollm.evaluate.subject import Subject


class EvidenceQuality:
    name = "evidence"
    about = (
        "Evidence: do the cited segments show the answer? Only videos with more than one segment are scored. hit: the "
        "first cited segment overlaps the times at which the answer can be seen. any_segment: the share of all "
        "segments that overlap them, which is the expected hit of a random citation. gain: hit minus any_segment. "
        "seconds: the share of those times that lies in the cited segments."
    )
    controls = ("shuffled",)

    def lacks(self, item: Item) -> str | None:
        return None if item.question and item.spans else "a question with times"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # only the control text_only has no video, and this probe does not have it
        answer = subject.ask(video, item.question)
        segments = video.segments(subject.model.config, subject.model.encoder.vocabulary)
        return {
            "answer": answer.text,
            "cited": [[e.start_s, e.end_s] for e in answer.evidence],
            "segments": [[s.start_s, s.end_s] for s in segments],
        }

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        found = np.array([_scored(item.spans, p) for item, p in zip(items, predictions, strict=True)])
        return dict(zip(("gain", "hit", "any_segment", "seconds"), found.T, strict=True))

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {"gain": 0.0}


def _scored(spans: Sequence[Span], made: Prediction) -> tuple[float, float, float, float]:
    """Returns gain, hit, any_segment and seconds; NaN for a video of one segment, which any citation would hit."""
    segments, cited = made["segments"], made["cited"]
    if len(segments) < 2 or not cited:
        return math.nan, math.nan, math.nan, math.nan
    hit = float(shared_length(cited[:1], spans) > 0)
    chance = float(np.mean([shared_length([segment], spans) > 0 for segment in segments]))
    return hit - chance, hit, chance, shared_length(cited, spans) / max(union_length(spans), 1e-9)
