"""Dense captioning: the events of a video with their times and descriptions."""

from collections.abc import Sequence

import numpy as np

from videollm.chat.caption import dense_captions
from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.captions import meteor
from videollm.evaluate.metrics.spans import iou
from videollm.evaluate.subject import Subject

# The thresholds of temporal IoU in the evaluation of ActivityNet Captions (Krishna et al. 2017,
# https://github.com/ranjaykrishna/densevid_eval, `evaluate.py`).
IOU_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


class Dense:
    name = "dense"
    about = (
        "Dense captioning: the events of a video with their times. The model describes each segment separately, and "
        "neighbouring segments with the same description are joined. A caption matches an event if their temporal IoU "
        "reaches a threshold; all metrics are averaged over the thresholds 0.3, 0.5, 0.7 and 0.9. METEOR: the mean "
        "over all matching pairs, where a caption without a match counts as 0. precision: the share of captions that "
        "match an event. recall: the share of events that match a caption."
    )
    controls = ("blank", "shuffled", "reversed", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.spans and len(item.spans) == len(item.references) else "events with times and texts"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # only the control text_only has no video, and this task does not have it
        return {"captions": [[c.start_s, c.end_s, c.text] for c in dense_captions(subject.model, video)]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        found = np.array([_scored(item, p["captions"]) for item, p in zip(items, predictions, strict=True)])
        return dict(zip(("METEOR", "precision", "recall"), found.T, strict=True))

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}


def _scored(item: Item, captions: Sequence[Sequence]) -> tuple[float, float, float]:
    """Returns METEOR, precision and recall of the captions [start, end, text] of one video, 0 without captions."""
    if not captions:
        return 0.0, 0.0, 0.0
    overlaps = np.array([[iou(caption, span) for span in item.spans] for caption in captions])
    likeness = np.array([[meteor([c[2]], [[text]])[0] for text in item.references] for c in captions])
    texts, precision, recall = [], [], []
    for threshold in IOU_THRESHOLDS:
        matches = overlaps >= threshold  # (captions, events)
        # A caption without a matching event counts as one pair with METEOR 0, as in the official evaluation.
        pairs = matches.sum() + (~matches.any(1)).sum()
        texts.append((likeness * matches).sum() / pairs)
        precision.append(matches.any(1).mean())
        recall.append(matches.any(0).mean())
    return float(np.mean(texts)), float(np.mean(precision)), float(np.mean(recall))
