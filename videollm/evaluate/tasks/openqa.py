"""Open-ended questions with short answers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import contains, exact, f1, normalised
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import CONTROLS


class OpenQA:
    name = "openqa"
    about = (
        "Open-ended questions with short answers. The prompt is the question alone, and the answer is decoded "
        "greedily. Answers are compared without case, punctuation, accents and articles, and with number words as "
        "digits. exact: the answer equals a right answer. contains: a right answer occurs in the answer. f1: the F1 "
        "score of the words. Chance: the most frequent answer of the data, given to every question."
    )
    controls = CONTROLS

    def lacks(self, item: Item) -> str | None:
        return None if item.question and item.references else "a question with an answer"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        made: Prediction = {"answer": subject.ask(video, item.question).text}
        if item.paraphrase:
            made["paraphrase"] = subject.ask(video, item.paraphrase).text
        return made

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        answers = [p["answer"] for p in predictions]
        right = [item.references for item in items]
        return {
            name: np.array([measure(*pair) for pair in zip(answers, right, strict=True)])
            for name, measure in (("exact", exact), ("contains", contains), ("f1", f1))
        }

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        answers = Counter(" ".join(normalised(answer)) for item in items for answer in set(item.references))
        commonest = answers.most_common(1)[0][0]
        return {"exact": float(np.mean([exact(commonest, item.references) for item in items]))}
