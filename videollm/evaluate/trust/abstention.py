"""Whether a model says that it cannot tell, where it cannot."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import abstains
from videollm.evaluate.subject import Subject


class Abstention:
    name = "abstention"
    about = (
        "abstained: share of answers that say it cannot be told. It should be high on blank, wrong and no video and "
        "for questions of the kind cannot_tell, and low elsewhere: a model that always abstains sees nothing."
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
