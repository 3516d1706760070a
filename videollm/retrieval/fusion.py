"""Search in an index that holds the rows of several models.

The models may divide a video differently, so moments of one video that overlap by more than half are one result.
Rankings are joined by reciprocal-rank fusion (Cormack, Clarke and Buettcher 2009,
https://doi.org/10.1145/1571941.1572114), because cosines of different models cannot be compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, Moment, search

DAMPING = 60  # added to each rank; published
SAME = 0.5  # least intersection over union of two moments that are one result


def search_models(
    indexes: Sequence[Index],
    query: Callable[[Index], str | torch.Tensor | None],
    k: int = 10,
    where: Filter | None = None,
) -> list[Moment]:
    """Returns the k best moments of the rows of several models, the best first.

    Args:
        indexes: The rows of each model, see `Index.open_models`.
        query: Returns the query for the rows of a model; see `search`. A picture has another embedding in each.
        k: The largest number of moments.
        where: A filter on the videos.

    Raises ConfigError as `search` does.
    """
    rankings = [
        [replace(moment, models=(index.model,)) for moment in search(index, query(index), k, where)]
        for index in indexes
    ]
    return rankings[0] if len(rankings) == 1 else fuse(rankings, k)


def fuse(rankings: Sequence[Sequence[Moment]], k: int) -> list[Moment]:
    """Returns the k best moments of rankings, the best first.

    The score of a moment is the sum of 1 / (DAMPING + rank) over the rankings that have it, divided by the largest
    possible sum, so that 1 is the first place in every ranking. It is shown as the ranking that places it best has it.
    """
    most = len(rankings) / (DAMPING + 1)
    results: list[tuple[Moment, int]] = []  # with the rank at which it is placed best
    for ranking in rankings:
        joined: set[int] = set()
        for rank, moment in enumerate(ranking, 1):
            score = 1 / (DAMPING + rank) / most
            at = next((i for i, (other, _) in enumerate(results) if i not in joined and _is_same(other, moment)), None)
            if at is None:
                at = len(results)
                results.append((replace(moment, score=score, row=None), rank))
            else:
                other, best = results[at]
                models = (*other.models, *moment.models)
                shown = moment if rank < best else other
                results[at] = (
                    replace(shown, score=other.score + score, row=None, models=models),
                    min(rank, best),
                )
            joined.add(at)
    return sorted((moment for moment, _ in results), key=lambda moment: -moment.score)[:k]


def _is_same(one: Moment, other: Moment) -> bool:
    """Whether two moments are mostly the same part of a video."""
    both = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    either = max(one.end_s, other.end_s) - min(one.start_s, other.start_s)
    return one.path == other.path and both > SAME * either
