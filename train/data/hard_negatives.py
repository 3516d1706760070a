"""Batches of rows that are hard to tell apart (retrieval-augmented training, VideoCLIP, Xu et al. 2021)."""

import random
from collections.abc import Sequence

import torch

CROWD = 2  # a batch is a random half of its centre's neighbourhood, so that the same rows do not always meet


def alike(order: Sequence[int], embeds: torch.Tensor, batch: int, rng: random.Random) -> list[int]:
    """The rows of `order`, each once, so that those of a batch look alike and are hard negatives of each other.

    embeds: unit vectors, indexed by row. Each batch is the first row that is left and `batch` - 1 rows drawn from its
    `CROWD` * `batch` nearest that are left. VideoCLIP draws the centres with replacement, which leaves rows out.
    """
    left, made = list(order), []
    while left:
        first, others = left[0], left[1:]
        near = (embeds[others] @ embeds[first]).argsort(descending=True)[: CROWD * batch].tolist()
        chosen = {others[i] for i in rng.sample(near, min(batch - 1, len(near)))}
        made += [first, *sorted(chosen)]
        left = [row for row in others if row not in chosen]
    return made
