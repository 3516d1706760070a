"""In which order a run sees its data, and what it is told that is not so: pure functions of seeds.

A **draw** is a number that says which row, and how often it was drawn before: `draw % rows` is the row. Whatever is
random about a row is seeded by its draw. So a run that goes on from a checkpoint sees exactly what it would have seen.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils.data import Sampler

from train.data.hard_negatives import alike

POOL = 50  # batches among which rows of like length are put together


@dataclass(frozen=True, kw_only=True)
class Order:
    """sizes: rows of each source, which follow one another. weights: how often each source is drawn, None as often as
    it has rows. batch: rows of one step, on all ranks. lengths: of each row, to put rows of like length into one batch.
    embeds (rows, E): unit vectors, to make batches of rows that look alike."""

    sizes: tuple[int, ...]
    epochs: float
    batch: int
    seed: int
    weights: tuple[float, ...] | None = None
    lengths: Sequence[int] | None = None
    embeds: torch.Tensor | None = None

    @cached_property
    def draws(self) -> list[int]:
        """As many whole batches as the epochs hold."""
        rows, made = sum(self.sizes), []
        wanted = int(rows * self.epochs) // self.batch * self.batch
        for epoch in range(-(-wanted // rows) if rows else 0):
            rng = random.Random(f"{self.seed}/{epoch}")
            order = mixture(self.sizes, self.weights, rng)
            if self.lengths is not None:
                order = grouped(order, self.lengths, self.batch, rng)
            elif self.embeds is not None:
                order = alike(order, self.embeds, self.batch, rng)
            made += _numbered(order, rows, epoch)
        return made[:wanted]


def _numbered(order: Sequence[int], rows: int, epoch: int) -> Iterator[int]:
    """Draws of one epoch. A weighted mixture may draw a row more than once."""
    seen: dict[int, int] = {}
    for row in order:
        again = seen[row] = seen.get(row, -1) + 1
        yield row + rows * (epoch + 1000 * again)


class Draws(Sampler[int]):
    """All draws of a run, one after the other: to Trainer, one epoch."""

    def __init__(self, order: Order):
        self.order = order

    def __len__(self) -> int:
        return len(self.order.draws)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.draws)


def mixture(sizes: Sequence[int], weights: Sequence[float] | None, rng: random.Random) -> list[int]:
    """As many rows as there are, shuffled. With weights each source has its share of them: its rows in turn, in an
    order drawn anew whenever all have been used."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    if weights is None:
        order = list(range(sum(sizes)))
    else:
        shares = [sum(sizes) * w / sum(weights) for w in weights]
        counts = [int(s) for s in shares]
        by_rest = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
        for i in by_rest[: sum(sizes) - sum(counts)]:
            counts[i] += 1
        order = []
        for start, size, count in zip(starts, sizes, counts, strict=True):
            while count > 0:
                order += [start + i for i in rng.sample(range(size), min(size, count))]
                count -= size
    rng.shuffle(order)
    return order


def grouped(order: Sequence[int], lengths: Sequence[int], batch: int, rng: random.Random) -> list[int]:
    """Batches of rows of like length, in any order: less padding, and every row as often as in `order`."""
    batches = []
    for at in range(0, len(order), POOL * batch):
        pool = sorted(order[at : at + POOL * batch], key=lambda row: lengths[row])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    short = [b for b in batches if len(b) < batch]
    whole = [b for b in batches if len(b) == batch]
    rng.shuffle(whole)
    return [row for b in (*whole, *short) for row in b]
