"""Hallucination: yes-or-no questions about things of which half are not in the video."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import yes_or_no
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import CONTROLS


class Hallucination:
    name = "hallucination"
    about = (
        "Hallucination: yes-or-no questions about what the clip shows. Half of the things asked about are in the "
        "clip, half are not (POPE, Li et al. 2023). The slice adversarial asks for a shape and a colour that are both "
        "in the clip, but not together. accuracy: the answer begins with the right yes or no. f1_yes: the F1 score of "
        "yes. yes_rate: the share of yes, which should be one half. unclear: the share of answers that begin with "
        "neither, which count as wrong."
    )
    controls = CONTROLS

    def lacks(self, item: Item) -> str | None:
        return None if item.question and yes_or_no(item.references[0]) is not None else "a question of yes or no"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        return {"answer": subject.ask(subject.see(item, condition), item.question).text}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        said = [yes_or_no(p["answer"]) for p in predictions]
        right = [yes_or_no(item.references[0]) is True for item in items]
        pairs = list(zip(said, right, strict=True))
        return {
            "accuracy": np.array([float(s is r) for s, r in pairs]),
            "f1_yes": np.array([[float(s is True and r), float(s is True), float(r)] for s, r in pairs]),
            "yes_rate": np.array([float(s is True) for s in said]),
            "unclear": np.array([float(s is None) for s in said]),
        }

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {"accuracy": 0.5}
