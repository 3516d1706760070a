"""Paraphrase: whether a question gets the same answer when it is asked in other words."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import exact, normalised
from videollm.evaluate.subject import Subject


class Paraphrase:
    name = "paraphrase"
    about = (
        "Paraphrase: does the same question in other words get the same answer? consistent: both answers have the same "
        "words. right: the first answer is right. both_right: both answers are right. A constant answer is consistent "
        "too, so consistent says little without both_right."
    )
    controls = ("text_only",)

    def lacks(self, item: Item) -> str | None:
        return None if item.paraphrase and item.references else "a question in two wordings"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        return {
            "answer": subject.ask(video, item.question).text,
            "paraphrase": subject.ask(video, item.paraphrase).text,
        }

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        same = [normalised(p["answer"]) == normalised(p["paraphrase"]) for p in predictions]
        right = np.array([exact(p["answer"], i.references) for i, p in zip(items, predictions, strict=True)])
        other = np.array([exact(p["paraphrase"], i.references) for i, p in zip(items, predictions, strict=True)])
        return {"consistent": np.array(same, float), "right": right, "both_right": right * other}

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}
