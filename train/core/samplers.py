"""The order in which a run sees its data, as pure functions of seeds.

A **draw** is a number that stands for a row and for how often it was drawn before: `draw % rows` is the row. All
randomness of a row is seeded by its draw, so that a run that resumes from a checkpoint sees exactly what it would have
seen.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.utils.data import Sampler

from train.data.hard_negatives import alike
from videollm.errors import ConfigError

POOL = 50  # batches that are grouped by length together; more need less padding, but mix rows less


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a run draws the rows of several sources.

    Args:
        sizes: The number of rows of each source. Rows of the sources are numbered one after another.
        epochs: How often the rows are seen. It may be a fraction.
        batch: The number of rows of one step over all ranks.
        seed: The seed.
        weights: The relative frequency of each source. None takes its number of rows.
        lengths: The length of each row, to group rows of similar length into batches.
        embeds: Unit vectors (rows, E), to form batches of rows that look similar.
    """

    sizes: tuple[int, ...]
    epochs: float
    batch: int
    seed: int
    weights: tuple[float, ...] | None = None
    lengths: Sequence[int] | None = None
    embeds: torch.Tensor | None = None

    @cached_property
    def draws(self) -> list[int]:
        """The draws of all epochs, cut to whole batches."""
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
    """Yields the draws of one epoch, in which a weighted mixture may repeat a row."""
    seen: dict[int, int] = {}
    for row in order:
        again = seen[row] = seen.get(row, -1) + 1
        yield row + rows * (epoch + 1000 * again)  # unique below 1000 epochs


class Draws(Sampler[int]):
    """All draws of a run, which the trainer sees as one epoch. Raises ConfigError if they make no batch."""

    def __init__(self, order: Order):
        self.order = order
        if not order.draws:
            raise ConfigError(
                f"{sum(order.sizes)} rows seen {order.epochs} times make no batch of {order.batch}; lower batch_size"
            )

    def __len__(self) -> int:
        return len(self.order.draws)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.draws)


def mixture(sizes: Sequence[int], weights: Sequence[float] | None, rng: random.Random) -> list[int]:
    """Returns as many draws of rows as there are rows, shuffled.

    With weights, each source has its share of the draws. Its rows come in an order that is drawn again whenever all of
    them have been used.
    """
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
    """Returns batches of rows of similar length, in random order. They need less padding, and have every row as
    often as `order`."""
    batches = []
    for at in range(0, len(order), POOL * batch):
        pool = sorted(order[at : at + POOL * batch], key=lambda row: lengths[row])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    short = [b for b in batches if len(b) < batch]
    whole = [b for b in batches if len(b) == batch]
    rng.shuffle(whole)
    return [row for b in (*whole, *short) for row in b]
