"""Dense captions: what happens when."""

from collections.abc import Sequence

import numpy as np

from videollm.chat.caption import dense_captions
from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.captions import meteor
from videollm.evaluate.metrics.spans import iou
from videollm.evaluate.subject import Subject

AT = (0.3, 0.5, 0.7, 0.9)  # ActivityNet Captions, Krishna et al. 2017


class Dense:
    name = "dense"
    about = (
        "Each segment is described by itself; neighbours that read the same are one. METEOR: of every caption with "
        "each event that it overlaps enough, 0 where there is none, averaged over a video's captions and over the "
        "thresholds 0.3, 0.5, 0.7, 0.9 of temporal IoU. precision, recall: captions that overlap an event enough, and "
        "events that a caption does, averaged in the same way."
    )
    controls = ("blank", "shuffled", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.spans and len(item.spans) == len(item.references) else "events with times and texts"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # there is no text_only control
        return {"captions": [[c.start_s, c.end_s, c.text] for c in dense_captions(subject.model, video)]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        found = np.array([_scored(item, p["captions"]) for item, p in zip(items, predictions, strict=True)])
        return dict(zip(("METEOR", "precision", "recall"), found.T, strict=True))

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}


def _scored(item: Item, captions: Sequence[Sequence]) -> tuple[float, float, float]:
    """METEOR, precision, recall."""
    overlaps = np.array([[iou(caption, span) for span in item.spans] for caption in captions])
    likeness = np.array([[meteor([c[2]], [[text]])[0] for text in item.references] for c in captions])
    texts, precision, recall = [], [], []
    for at in AT:
        enough = overlaps >= at
        pairs = enough.sum() + (~enough.any(1)).sum()  # a caption of nothing counts once, with 0
        texts.append((likeness * enough).sum() / pairs)
        precision.append(enough.any(1).mean())
        recall.append(enough.any(0).mean())
    return float(np.mean(texts)), float(np.mean(precision)), float(np.mean(recall))
