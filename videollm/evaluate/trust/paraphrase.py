"""Whether the same question in other words gets the same answer."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import exact, normalised
from videollm.evaluate.subject import Subject


class Paraphrase:
    name = "paraphrase"
    about = (
        "The same question is asked in two ways. consistent: both answers are the same words; right, both_right: the "
        "first answer is right, and both are. Consistency alone is cheap: read it beside both_right."
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
