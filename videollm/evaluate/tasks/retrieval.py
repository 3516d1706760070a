"""Text-video retrieval in both directions, over the videos that are asked about."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import Part
from videollm.retrieval.metrics import RECALL_AT, Ranks, Scores, grouped_ranks, text_ranks
from videollm.retrieval.queries import embed_text


class Retrieval:
    name = "retrieval"
    about = (
        "Cosine of a text's embedding with the mean over a video's frames. R1, R5, R10, MdR (median rank), mAP: texts "
        "look for their video; with _video: videos look for their texts, of which the best counts. Ties count for the "
        "mean over their orders. Chance: a random ranking."
    )
    controls = ("blank", "wrong_video")  # the mean over frames knows no order

    def lacks(self, item: Item) -> str | None:
        return None if item.question else "a text that describes the video"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        """scores: one for each video of `gallery`, in its order."""
        videos = subject.once(("gallery", condition), lambda: _embeddings(subject, condition))
        return {"scores": (videos @ embed_text(item.question, subject.model.encoder)).tolist()}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        videos = gallery(items)
        number = {part: n for n, part in enumerate(videos)}
        video_of = torch.tensor([number[item.part] for item in items])
        scores = Scores.of(torch.tensor([p["scores"] for p in predictions], dtype=torch.float64))
        rows = _rows(text_ranks(scores, video_of))
        by_video = _rows(grouped_ranks(scores, video_of))
        first = np.unique(video_of.numpy(), return_index=True)[1]  # a video's row stands with its first text
        for name, values in by_video.items():
            rows[f"{name}_video"] = np.full(len(items), np.nan)
            rows[f"{name}_video"][first] = values
        return rows

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        videos = len(gallery(items))
        found = {f"R{k}": min(1.0, k / videos) for k in RECALL_AT}
        return found | {f"{name}_video": value for name, value in found.items()} | {"MdR": (videos + 1) / 2}


def gallery(items: Sequence[Item]) -> list[Part]:
    """The videos that are searched, each once, in order."""
    return sorted({item.part for item in items}, key=str)


def _embeddings(subject: Subject, condition: str) -> torch.Tensor:
    """(Nv,E) of the gallery."""
    found = []
    for part in gallery(subject.asked):
        video = subject.views(part, condition)
        assert video is not None  # there is no text_only control
        found.append(F.normalize(video.features.embed.float().cpu().mean(0), dim=0))
    return torch.stack(found)


def _rows(ranks: Ranks) -> dict[str, np.ndarray]:
    """Of each query, the expectation over the orders of what ties."""
    each = [
        Ranks(ranks.better[i : i + 1], ranks.tied[i : i + 1], ranks.before[i : i + 1]) for i in range(len(ranks.tied))
    ]
    found = [one.summary() for one in each]
    rows = {name: np.array([one[name] for one in found]) for name in ("R1", "R5", "R10", "MdR", "mAP")}
    return {name: values / 100 if name.startswith("R") else values for name, values in rows.items()}
