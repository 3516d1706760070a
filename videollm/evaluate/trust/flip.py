"""Temporal flip: whether answers about the order of events reverse when the video is played backwards."""

from collections.abc import Sequence

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import backwards


class TemporalFlip:
    name = "flip"
    about = (
        "Temporal flip: does the answer change when the clip is played backwards? The question is what happens first. "
        "The choice is the sentence with the highest mean log probability per token out of four: the first event, the "
        "last event, and both as they look backwards. forwards, backwards: the share of right choices in each "
        "direction. both: the share that is right in both directions, which only the order of the frames can tell. "
        "changed: the share of items with different choices in the two directions."
    )
    controls = ("blank", "shuffled", "wrong_video", "text_only")  # each prediction has the video backwards already

    def lacks(self, item: Item) -> str | None:
        fits = len(item.references) == 2 and set(item.references) <= set(item.choices)
        return None if item.question and fits else "a question with one right choice forwards and one backwards"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        turned = None if video is None else backwards(video)
        likely = [subject.likelihoods(shown, item.question, item.choices) for shown in (video, turned)]
        return {
            "forwards": item.choices[int(np.argmax(likely[0]))],
            "backwards": item.choices[int(np.argmax(likely[1]))],
        }

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        pairs = list(zip(items, predictions, strict=True))
        forwards = np.array([float(p["forwards"] == item.references[0]) for item, p in pairs])
        back = np.array([float(p["backwards"] == item.references[1]) for item, p in pairs])
        changed = np.array([float(p["forwards"] != p["backwards"]) for p in predictions])
        return {"both": forwards * back, "forwards": forwards, "backwards": back, "changed": changed}

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        one = np.array([1 / len(item.choices) for item in items])
        return {"both": float((one**2).mean()), "forwards": float(one.mean()), "backwards": float(one.mean())}
