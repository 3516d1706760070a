"""Abstention: whether a model says that it cannot answer when the video does not show the answer."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import abstains
from videollm.evaluate.subject import Subject


class Abstention:
    name = "abstention"
    about = (
        "Abstention: does the model say so when it cannot answer? abstained: the share of answers that say the video "
        "does not show the answer. It should be high on blank video, on the wrong video, without video and for "
        "questions of the kind cannot_tell, and low elsewhere: a model that always abstains does not use the video."
    )
    controls = ("blank", "wrong_video", "text_only")

    def lacks(self, item: Item) -> str | None:
        return None if item.question else "a question"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        return {"answer": subject.ask(subject.see(item, condition), item.question).text}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        return {"abstained": np.array([float(abstains(p["answer"])) for p in predictions])}

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}
