"""Retrieval metrics in both directions: recall at K, median and mean rank, and mean average precision.

Scores are computed in blocks of rows, so that 100,000 texts x 100,000 videos need little memory.

Shapes: Nt texts, Nv videos, Q queries, C candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from videollm.errors import ConfigError

BLOCK_ELEMENTS = 1 << 25  # scores of one block: 128 MB in float32
RECALL_AT = (1, 5, 10)

Rows = Callable[[slice], torch.Tensor]  # from a slice of n queries to their scores of all candidates (n,C)
Ties = Literal["fair", "official", "official_multi"]


@dataclass(frozen=True)
class Scores:
    """The scores of all pairs, by rows of texts and by rows of videos.

    Attributes:
        texts, videos: Their numbers, Nt and Nv.
        by_text: Returns the rows (n,Nv) of a slice of texts.
        by_video: Returns the rows (n,Nt) of a slice of videos.

    Both functions must return the same numbers whenever they are called.
    """

    texts: int
    videos: int
    by_text: Rows
    by_video: Rows

    @staticmethod
    def of(similarity: torch.Tensor) -> "Scores":
        """Returns the scores of a matrix (Nt,Nv)."""
        texts, videos = similarity.shape
        return Scores(texts, videos, lambda rows: similarity[rows], lambda rows: similarity[:, rows].mT)

    @staticmethod
    def product(texts: torch.Tensor, videos: torch.Tensor) -> "Scores":
        """Returns the dot products of embeddings (Nt,E) and (Nv,E), which are computed when they are needed."""
        return Scores(
            len(texts), len(videos), lambda rows: texts[rows] @ videos.mT, lambda rows: videos[rows] @ texts.mT
        )


@dataclass(frozen=True)
class Ranks:
    """The rank of the right candidate of each query, as counts of candidates, int64 (Q,).

    Attributes:
        better: Candidates with a higher score.
        tied: Candidates with the same score, including the right one.
        before: Those of the tied that have a lower index.
    """

    better: torch.Tensor
    tied: torch.Tensor
    before: torch.Tensor

    def summary(self, ties: Ties = "fair") -> dict[str, float]:
        """Returns R1, R5 and R10 in percent, MdR and MnR (median and mean rank, from 1), and mAP, 0 to 1.

        With one right candidate per query, mAP is the mean of 1 / rank.

        Args:
            ties: How tied candidates are counted. "fair": the expectation over their orders, and the middle of the tie
                for the median and mean rank. "official": as `compute_metrics` of CLIP4Clip (`metrics.py`), which counts
                a query once for every place of its tie. "official_multi": as `tensor_text_to_video_metrics` of
                CLIP4Clip, which ranks them by their index and takes the lower of the two middle ranks as the median.
        """
        if ties == "fair":
            # The expected 1 / rank is a mean of 1 / r over the places of the tie, a difference of harmonic numbers.
            better, harmonic = self.better.double(), torch.special.digamma
            middle = better + (self.tied + 1) / 2
            expected = (harmonic(better + self.tied + 1) - harmonic(better + 1)) / self.tied
            found = {f"R{k}": ((k - better) / self.tied).clamp(0, 1) for k in RECALL_AT}
            return _percent(found) | _means(middle, middle.quantile(0.5), expected)
        if ties == "official":
            places = torch.arange(int(self.tied.sum()))
            starts = self.tied.cumsum(0) - self.tied
            rank = (self.better - starts).repeat_interleave(self.tied) + places + 1.0
            # torch.quantile raises an error for more than 2^24 values.
            median = rank.double().quantile(0.5) if len(rank) < 1 << 24 else rank.sort().values[len(rank) // 2]
        else:
            rank = (self.better + self.before + 1).double()
            median = rank.median()
        return _percent({f"R{k}": (rank <= k).double() for k in RECALL_AT}) | _means(rank, median, 1 / rank)


def evaluate(scores: Scores, video_of: torch.Tensor | None = None, ties: Ties = "fair") -> dict[str, dict[str, float]]:
    """Returns the metrics of `Ranks.summary` under "text_to_video" and "video_to_text".

    If videos have several texts, as in MSVD, video_to_text ranks the sets of texts by their best text
    (`grouped_ranks`), and its mAP is that of the single texts (`average_precision`).

    Args:
        scores: The scores.
        video_of: The video (Nt,) that each text describes. Every video has at least one text. None means that text i
            describes video i.
        ties: How tied candidates are counted, see `Ranks.summary`.

    Raises:
        ConfigError: If `video_of` does not fit the scores, or the score of a right pair is NaN.
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
    """Returns the ranks of texts as queries among all videos, of which some may have no text."""
    return _ranks(scores.by_text, video_of, scores.videos)


def grouped_ranks(scores: Scores, video_of: torch.Tensor) -> Ranks:
    """Returns the ranks of videos as queries among the sets of texts of each video.

    The score of a set is that of its best text, as in `tensor_video_to_text_sim` of CLIP4Clip (`metrics.py`).
    """
    _check(scores, video_of)

    def best(rows: slice) -> torch.Tensor:
        block = scores.by_video(rows)
        groups = block.new_full((len(block), scores.videos), float("-inf"))
        return groups.scatter_reduce_(1, video_of.expand_as(block), block, "amax")

    one_each = torch.equal(video_of, torch.arange(scores.videos))
    return _ranks(scores.by_video if one_each else best, torch.arange(scores.videos), max(scores.videos, scores.texts))


def average_precision(scores: Scores, video_of: torch.Tensor) -> torch.Tensor:
    """Returns the average precision (Nv,) of videos as queries among all texts.

    It is the mean over the texts of a video of the precision at that text, |own texts that score at least as high| /
    |texts that score at least as high|, so that tied texts are retrieved together.
    """
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
    # The counts of all blocks are in one tensor: small tensors kept from each block would lie in memory between the
    # large ones that are freed, and memory would grow with every block. They are int32, because `sum` first copies the
    # block to the type of its result.
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
        raise ConfigError(f"video_of names the videos of {len(video_of)} texts, but there are {scores.texts} texts")
    if not torch.equal(video_of.unique(), torch.arange(scores.videos)):
        raise ConfigError(f"video_of must name each of the videos 0 to {scores.videos - 1} at least once, and no other")


def _percent(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: 100 * float(hits.double().mean()) for name, hits in found.items()}


def _means(rank: torch.Tensor, median: torch.Tensor, inverse: torch.Tensor) -> dict[str, float]:
    return {"MdR": float(median), "MnR": float(rank.double().mean()), "mAP": float(inverse.double().mean())}
