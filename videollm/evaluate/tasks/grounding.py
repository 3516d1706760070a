"""Temporal grounding: when a text holds."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.spans import AP_AT, average_precision, best_iou
from videollm.evaluate.subject import Subject
from videollm.retrieval.grounding import ground

MOST = 10  # spans a query


class Grounding:
    name = "grounding"
    about = (
        "As `videollm moments` finds spans, from the frames' similarities to the query. mIoU and R1@: of the best span "
        "with the right one that it fits best. mAP: of up to 10 scored spans, over IoU 0.5 to 0.95, as QVHighlights "
        "has it. On blank video nothing stands out and the whole of it is the answer."
    )
    controls = ("blank", "shuffled", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.question and item.spans else "a query with times"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # there is no text_only control
        found = ground(video, item.question, subject.model.encoder, MOST)
        return {"spans": [[s.start_s, s.end_s, s.score] for s in found]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        found = [p["spans"] for p in predictions]
        right = [item.spans for item in items]
        overlap = np.array([best_iou(f[0], r) if f else 0.0 for f, r in zip(found, right, strict=True)])
        precision = [np.mean([average_precision(f, r, at) for at in AP_AT]) for f, r in zip(found, right, strict=True)]
        recalls = {f"R1@{at}": (overlap >= at).astype(float) for at in (0.3, 0.5, 0.7)}
        return {"mIoU": overlap, **recalls, "mAP": np.array(precision)}

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}
