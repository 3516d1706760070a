"""Temporal grounding: the times at which a text describes a video."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.precision_recall import Curves, curve
from videollm.evaluate.metrics.spans import AP_AT, average_precision, best_iou, matched
from videollm.evaluate.subject import Subject
from videollm.retrieval.grounding import ground

MAX_SPANS = 10  # predicted spans for one query; mAP reads all of them
RECALL_AT = (0.3, 0.5, 0.7)  # IoU thresholds


class Grounding:
    name = "grounding"
    about = (
        "Temporal grounding, as in `videollm moments`. Spans are found from the similarities between the frames and "
        "the query. mIoU: the mean IoU of the first span with the right span that it overlaps most. R1@x: the share "
        "of queries where this IoU is at least x. mAP: mean average precision of up to 10 scored spans over the IoU "
        "thresholds 0.5 to 0.95, as in QVHighlights. On blank video all frames are equal, so that the predicted span "
        "is the whole video. Precision and recall are those of the spans of all queries together, over all thresholds "
        "of their scores."
    )
    controls = ("blank", "shuffled", "reversed", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.question and item.spans else "a query with times"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # only the control text_only has no video, and this task does not have it
        found = ground(video, item.question, subject.model.encoder, MAX_SPANS)
        return {"spans": [[s.start_s, s.end_s, s.score] for s in found]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        found = [p["spans"] for p in predictions]
        right = [item.spans for item in items]
        overlap = np.array([best_iou(f[0], r) if f else 0.0 for f, r in zip(found, right, strict=True)])
        precision = [np.mean([average_precision(f, r, at) for at in AP_AT]) for f, r in zip(found, right, strict=True)]
        recalls = {f"R1@{at}": (overlap >= at).astype(float) for at in RECALL_AT}
        return {"mIoU": overlap, **recalls, "mAP": np.array(precision)}

    def curves(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Curves:
        every = {}
        for at in RECALL_AT:
            pairs = [
                one
                for item, prediction in zip(items, predictions, strict=True)
                for one in matched(prediction["spans"], item.spans, at)
            ]
            scores, right = (np.array(pairs, float).reshape(-1, 2)).T
            every[f"IoU {at}"] = curve(scores, right.astype(bool), sum(len(item.spans) for item in items))
        return Curves(every)

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}
