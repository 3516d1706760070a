"""Batches of pairs that are hard to tell apart (VideoCLIP, Xu et al. 2021)."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F

CROWD = 2  # a batch is a random half of a centre's nearest neighbours: not always the same ones


def mined_order(vectors: torch.Tensor, batch: int, seed: int) -> list[int]:
    """Rows of vectors (N,E), batch after batch, each row once: a random centre of those left, and `batch` of its
    2 · `batch` nearest among them by cosine. VideoCLIP draws centres with replacement, so that an epoch leaves rows
    out; its pairs are (video + text) / 2.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = F.normalize(vectors, dim=-1)
    left = torch.arange(len(unit))
    order: list[int] = []
    while len(left):
        centre = unit[left[torch.randint(len(left), (), generator=generator)]]
        near = (unit[left] @ centre).topk(min(CROWD * batch, len(left))).indices
        kept = near[torch.randperm(len(near), generator=generator)[:batch]]
        order += left[kept].tolist()
        rest = torch.ones(len(left), dtype=torch.bool)
        rest[kept] = False
        left = left[rest]
    return order


def alike(order: Sequence[int], embeds: torch.Tensor, batch: int, rng: random.Random) -> list[int]:
    """Batches whose rows look alike, so that each is a hard negative of the others (VideoCLIP's retrieval-augmented
    training, Xu et al. 2021): the first row left, and `batch` - 1 drawn from the 2 `batch` nearest that are left."""
    left, made = list(order), []
    while left:
        first, others = left[0], left[1:]
        near = (embeds[others] @ embeds[first]).argsort(descending=True)[: 2 * batch].tolist()
        chosen = {others[i] for i in rng.sample(near, min(batch - 1, len(near)))}
        made += [first, *sorted(chosen)]
        left = [row for row in others if row not in chosen]
    return made
