"""Captioning: one description of a whole video."""

from collections.abc import Sequence

from videollm.chat.caption import QUESTION
from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.captions import ABOUT, caption_rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import CONTROLS


class Caption:
    name = "caption"
    about = f"Captioning: one description of the whole video. The prompt is: {QUESTION} {ABOUT}"
    controls = CONTROLS

    def lacks(self, item: Item) -> str | None:
        return None if item.references else "a reference caption"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        return {"answer": subject.ask(subject.see(item, condition), QUESTION).text}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        return caption_rows([p["answer"] for p in predictions], [item.references for item in items])

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {}
