"""Summarisation: the key parts of a video, and a text about the whole."""

from collections.abc import Sequence

import numpy as np

from videollm.chat.summary import summarize
from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.captions import ABOUT, caption_rows
from videollm.evaluate.metrics.spans import shared_length, union_length
from videollm.evaluate.subject import Subject


class SummaryTask:
    name = "summary"
    about = (
        "Summarisation, as in `videollm summarize`. The prediction is the segments that best represent the video and a "
        f"description of the whole. {ABOUT} key_f1: the F1 score between the seconds in the predicted parts and the "
        "seconds in the reference spans."
    )
    controls = ("blank", "shuffled", "reversed", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.references else "a reference summary"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # only the control text_only has no video, and this task does not have it
        made = summarize(subject.model, video)
        return {"answer": made.text, "parts": [[p.start_s, p.end_s, p.text] for p in made.parts]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        rows = caption_rows([p["answer"] for p in predictions], [item.references for item in items])
        parts = [_key_f1(item, p.get("parts", ())) for item, p in zip(items, predictions, strict=True)]
        return {"ROUGE_L": rows.pop("ROUGE_L"), **rows, "key_f1": np.array(parts)}

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}


def _key_f1(item: Item, parts: Sequence[Sequence]) -> float:
    """Returns the F1 score of seconds, 2 |A ∩ B| / (|A| + |B|), or NaN if the item or the prediction has no times."""
    if not item.spans or not parts:
        return float("nan")
    return 2 * shared_length(parts, item.spans) / (union_length(parts) + union_length(item.spans))
