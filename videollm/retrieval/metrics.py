"""Retrieval metrics: recall at K, median and mean rank, mean average precision, in both directions.

Scores come in blocks of rows, so that 100,000 texts x 100,000 videos need little memory. Shapes: Nt texts, Nv videos,
Q queries, C candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from videollm.errors import ConfigError

BLOCK_ELEMENTS = 1 << 25  # scores held at once: 128 MB in float32
RECALL_AT = (1, 5, 10)

Rows = Callable[[slice], torch.Tensor]  # queries -> their scores of all candidates (n,C)
Ties = Literal["fair", "official", "official_multi"]


@dataclass(frozen=True)
class Scores:
    """Similarities by rows of texts and by rows of videos. Both must give the same numbers each time they are asked."""

    texts: int
    videos: int
    by_text: Rows
    by_video: Rows

    @staticmethod
    def of(similarity: torch.Tensor) -> "Scores":
        """A whole matrix (Nt,Nv)."""
        texts, videos = similarity.shape
        return Scores(texts, videos, lambda rows: similarity[rows], lambda rows: similarity[:, rows].mT)

    @staticmethod
    def product(texts: torch.Tensor, videos: torch.Tensor) -> "Scores":
        """Products of embeddings (Nt,E) and (Nv,E), computed as they are needed."""
        return Scores(
            len(texts), len(videos), lambda rows: texts[rows] @ videos.mT, lambda rows: videos[rows] @ texts.mT
        )


@dataclass(frozen=True)
class Ranks:
    """Where the right candidate of each query (Q,) lies: `better` candidates score above it, `tied` as it does, itself
    among them, `before` of these at a lower index."""

    better: torch.Tensor
    tied: torch.Tensor
    before: torch.Tensor

    def summary(self, ties: Ties = "fair") -> dict[str, float]:
        """R1, R5, R10 in percent, MdR and MnR from 1, mAP from 0 to 1 (of one right candidate a query it is the mean
        of 1 / rank). What ties count for:

        "fair": the expectation over orders of the tied; the median and mean rank take the middle of each tie.
        "official": CLIP4Clip's `compute_metrics`: a query is counted once for every place of its tie.
        "official_multi": CLIP4Clip's `tensor_text_to_video_metrics`: the tied lie in the order of their indices, and
        the median is the lower of the two in the middle.
        """
        if ties == "fair":
            better, harmonic = self.better.double(), torch.special.digamma
            middle = better + (self.tied + 1) / 2
            expected = (harmonic(better + self.tied + 1) - harmonic(better + 1)) / self.tied
            found = {f"R{k}": ((k - better) / self.tied).clamp(0, 1) for k in RECALL_AT}
            return _percent(found) | _means(middle, middle.quantile(0.5), expected)
        if ties == "official":
            places = torch.arange(int(self.tied.sum()))
            starts = self.tied.cumsum(0) - self.tied
            rank = (self.better - starts).repeat_interleave(self.tied) + places + 1.0
            median = rank.double().quantile(0.5) if len(rank) < 1 << 24 else rank.sort().values[len(rank) // 2]
        else:
            rank = (self.better + self.before + 1).double()
            median = rank.median()
        return _percent({f"R{k}": (rank <= k).double() for k in RECALL_AT}) | _means(rank, median, 1 / rank)


def evaluate(scores: Scores, video_of: torch.Tensor | None = None, ties: Ties = "fair") -> dict[str, dict[str, float]]:
    """{"text_to_video": ..., "video_to_text": ...}, each as Ranks.summary.

    video_of (Nt,): the video that each text describes, every video at least once; None: text i describes video i.
    Where videos have several texts, as in MSVD, video_to_text ranks videos' sets of texts by their best
    (`grouped_ranks`), and its mAP is that of the texts themselves (`average_precision`).
    """
    if video_of is None:
        video_of = torch.arange(scores.texts)
    _check(scores, video_of)
    forward, backward = text_ranks(scores, video_of), grouped_ranks(scores, video_of)
    single = ties if ties != "official_multi" else "official"
    back = backward.summary(single)
    if scores.texts != scores.videos:
        back["mAP"] = float(average_precision(scores, video_of).mean())
    return {"text_to_video": forward.summary(ties), "video_to_text": back}


def text_ranks(scores: Scores, video_of: torch.Tensor) -> Ranks:
    """Texts as queries; videos, of which some may have no text, as candidates."""
    return _ranks(scores.by_text, video_of, scores.videos)


def grouped_ranks(scores: Scores, video_of: torch.Tensor) -> Ranks:
    """Videos as queries; a candidate is all texts of one video, scored by the best of them (CLIP4Clip's
    `tensor_video_to_text_sim`). With one text a video, texts are the candidates."""
    _check(scores, video_of)

    def best(rows: slice) -> torch.Tensor:
        block = scores.by_video(rows)
        groups = block.new_full((len(block), scores.videos), float("-inf"))
        return groups.scatter_reduce_(1, video_of.expand_as(block), block, "amax")

    one_each = torch.equal(video_of, torch.arange(scores.videos))
    return _ranks(scores.by_video if one_each else best, torch.arange(scores.videos), max(scores.videos, scores.texts))


def average_precision(scores: Scores, video_of: torch.Tensor) -> torch.Tensor:
    """Videos as queries, texts as candidates, (Nv,): the mean over a video's texts of precision at that text,
    |own texts scored at least as high| / |texts scored at least as high|: the tied come together."""
    _check(scores, video_of)
    counts = video_of.bincount(minlength=scores.videos)
    order = video_of.argsort(stable=True)
    own = torch.full((scores.videos, int(counts.max())), -1)
    own[torch.arange(own.shape[1]) < counts[:, None]] = order
    found = []
    for rows in _blocks(scores.videos, scores.texts):
        block, mine = scores.by_video(rows), own[rows]
        real = mine >= 0
        right = block.take_along_dim(mine.clamp(min=0), 1)
        above = torch.stack([(block >= column[:, None]).count_nonzero(1) for column in right.unbind(1)], 1)
        own_above = ((right[:, None] >= right[:, :, None]) & real[:, None]).count_nonzero(2)
        found.append(torch.where(real, own_above / above, 0).sum(1) / real.sum(1))
    return torch.cat(found)


def _ranks(rows_of: Rows, truth: torch.Tensor, candidates: int) -> Ranks:
    # One table for all blocks: small tensors kept from each would lie between the large ones that it frees, and memory
    # would grow by the block. Counted in int32, as `sum` first makes a copy of the block in the type it counts in.
    counts = torch.zeros(3, len(truth), dtype=torch.int32)
    for rows in _blocks(len(truth), candidates):
        block, right = rows_of(rows), truth[rows, None]
        better, tied, before = counts[:, rows]
        own = block.take_along_dim(right, 1)
        better.copy_((block > own).sum(1, dtype=torch.int32))
        equal = block == own
        tied.copy_(equal.sum(1, dtype=torch.int32))
        ties = tied > 1
        before[ties] = (equal[ties] & (torch.arange(block.shape[1]) < right[ties])).sum(1, dtype=torch.int32)
    ranks = Ranks(*counts.long())
    if not ranks.tied.all():
        raise ConfigError(f"the score of query {int(ranks.tied.argmin())} with its right candidate is not a number")
    return ranks


def _blocks(queries: int, candidates: int) -> list[slice]:
    size = max(1, BLOCK_ELEMENTS // candidates)
    return [slice(i, i + size) for i in range(0, queries, size)]


def _check(scores: Scores, video_of: torch.Tensor) -> None:
    if len(video_of) != scores.texts:
        raise ConfigError(f"{len(video_of)} texts say which video they describe, there are {scores.texts} texts")
    if not torch.equal(video_of.unique(), torch.arange(scores.videos)):
        raise ConfigError(f"video_of must name each of the videos 0 to {scores.videos - 1} at least once, and no other")


def _percent(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: 100 * float(hits.double().mean()) for name, hits in found.items()}


def _means(rank: torch.Tensor, median: torch.Tensor, inverse: torch.Tensor) -> dict[str, float]:
    return {"MdR": float(median), "MnR": float(rank.double().mean()), "mAP": float(inverse.double().mean())}
