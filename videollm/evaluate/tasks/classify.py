"""Zero-shot classification of videos with the frame encoder."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.precision_recall import Curves, curve
from videollm.evaluate.subject import Subject
from videollm.retrieval.classify import compare, label_embeddings


class Classify:
    name = "classify"
    about = (
        "Zero-shot classification, as in `videollm classify`. The frame encoder compares the mean embedding of the "
        "frames with the embedding of each label. top1: the right label is the most probable one. top5: the right "
        "label is among the five most probable. mean_class: top1 of the items of each right label, averaged over these "
        "labels. Chance: 1, or 5, divided by the number of labels. Precision and recall are those of each pair of an "
        "item and a label over all thresholds of the probability; mAP is the average precision of a label, averaged "
        "over the labels that are right for an item."
    )
    # "shuffled" and "reversed" are left out because the mean over the frames does not depend on their order, and
    # "text_only" because there is nothing to compare the labels with.
    controls = ("blank", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.references and item.references[0] in item.choices else "labels, one of them right"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        assert video is not None  # only the control text_only has no video, and this task does not have it
        encoder = subject.model.encoder
        embeddings = [subject.once(("label", c), partial(label_embeddings, [c], encoder)) for c in item.choices]
        found = compare(video, item.choices, torch.cat(embeddings), encoder.scale)
        return {"labels": [[f.label, f.prob] for f in found]}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        labels = [[label for label, *_ in p["labels"]] for p in predictions]
        right = [item.references[0] for item in items]
        # A label that a prediction leaves out comes after all that it names.
        ranks = np.array([f.index(r) if r in f else np.inf for f, r in zip(labels, right, strict=True)])
        top1, top5 = ((ranks < k).astype(float) for k in (1, 5))
        classes = np.unique(right, return_inverse=True)[1]
        return {"top1": top1, "top5": top5, "mean_class": np.stack((classes, top1), 1)}

    def curves(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Curves:
        named = [{label: prob for label, prob, *_ in reversed(p["labels"])} for p in predictions]
        pairs = [
            (label, found.get(label, -np.inf), label == item.references[0])  # after all labels that are named
            for item, found in zip(items, named, strict=True)
            for label in item.choices
        ]
        labels, scores, right = (np.array(column) for column in zip(*pairs, strict=True))
        classes = {str(label): labels == label for label in np.unique(labels[right])}
        every = {"all labels": curve(scores, right)}
        return Curves(every, {label: curve(scores[own], right[own]) for label, own in classes.items()})

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        return {f"top{k}": float(np.mean([min(1.0, k / len(item.choices)) for item in items])) for k in (1, 5)}
