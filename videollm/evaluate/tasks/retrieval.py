"""Text-video retrieval in both directions, over the videos of the evaluated items."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from videollm.datasets.item import Item, Prediction
from videollm.errors import DataError
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import Part
from videollm.retrieval.metrics import RECALL_AT, Ranks, Scores, grouped_ranks, text_ranks
from videollm.retrieval.queries import embed_text


class Retrieval:
    name = "retrieval"
    about = (
        "Text-video retrieval in both directions. The score is the cosine of the text embedding with the mean "
        "embedding of the frames. R1, R5 and R10 (recall), MdR (median rank) and mAP: texts retrieve their video. The "
        "same names with _video: videos retrieve their texts, of which the best ranked counts. Ties count as the "
        "mean over all their orders. Chance: a random ranking."
    )
    # "shuffled" and "reversed" are left out because the mean over the frames does not depend on their order, and
    # "text_only" because there is nothing to compare the text with.
    controls = ("blank", "wrong_video")

    def lacks(self, item: Item) -> str | None:
        return None if item.question else "a text that describes the video"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        """Returns {"scores": [...]}, the score of each video of `gallery` in its order."""
        videos = subject.once(("gallery", condition), lambda: _embeddings(subject, condition))
        return {"scores": (videos @ embed_text(item.question, subject.model.encoder)).tolist()}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        videos = gallery(items)
        for item, p in zip(items, predictions, strict=True):
            if len(p["scores"]) != len(videos):
                raise DataError(
                    f"the prediction of {item.id!r} has {len(p['scores'])} scores; it must have one for each of the "
                    f"{len(videos)} videos"
                )
        number = {part: n for n, part in enumerate(videos)}
        video_of = torch.tensor([number[item.part] for item in items])
        scores = Scores.of(torch.tensor([p["scores"] for p in predictions], dtype=torch.float64))
        rows = _rows(text_ranks(scores, video_of))
        by_video = _rows(grouped_ranks(scores, video_of))
        # Rows belong to items, which are texts here. A video's score is stored at its first text, NaN at the others.
        first = np.unique(video_of.numpy(), return_index=True)[1]
        for name, values in by_video.items():
            rows[f"{name}_video"] = np.full(len(items), np.nan)
            rows[f"{name}_video"][first] = values
        return rows

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        videos = len(gallery(items))
        found = {f"R{k}": min(1.0, k / videos) for k in RECALL_AT}
        return found | {f"{name}_video": value for name, value in found.items()} | {"MdR": (videos + 1) / 2}


def gallery(items: Sequence[Item]) -> list[Part]:
    """Returns the videos that are searched, each once, in a fixed order."""
    return sorted({item.part for item in items}, key=str)


def _embeddings(subject: Subject, condition: str) -> torch.Tensor:
    """Returns the unit embeddings (Nv,E) of the gallery."""
    found = []
    for part in gallery(subject.asked):
        video = subject.views(part, condition)
        assert video is not None  # only the control text_only has no video, and this task does not have it
        found.append(F.normalize(video.features.embed.float().cpu().mean(0), dim=0))
    return torch.stack(found)


def _rows(ranks: Ranks) -> dict[str, np.ndarray]:
    """Returns the metrics of each query, in expectation over the orders of tied candidates. Recalls are 0 to 1."""
    each = [
        Ranks(ranks.better[i : i + 1], ranks.tied[i : i + 1], ranks.before[i : i + 1]) for i in range(len(ranks.tied))
    ]
    found = [one.summary() for one in each]
    rows = {name: np.array([one[name] for one in found]) for name in ("R1", "R5", "R10", "MdR", "mAP")}
    return {name: values / 100 if name.startswith("R") else values for name, values in rows.items()}
