"""Batches of pairs that are hard to tell apart (VideoCLIP, Xu et al. 2021)."""

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
