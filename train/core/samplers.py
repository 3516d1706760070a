"""In which order a run sees its data, and what it is told that is not so: pure functions of seeds.

A **draw** is a number that says which row, and how often it was drawn before: `draw % rows` is the row. Whatever is
random about a row is seeded by its draw. So a run that goes on from a checkpoint sees exactly what it would have seen.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.utils.data import Sampler

POOL = 50  # batches among which rows of like length are put together
VERBS = Path(__file__).parent / "verbs.txt"


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


class VerbSwap:
    """Changes what happens in a text and nothing else: one verb phrase for another of its group.

    Groups are lines of phrases that can stand for each other, with `|` between them.
    """

    def __init__(self, groups: Sequence[Sequence[str]]):
        self.group = {phrase: [p for p in group if p != phrase] for group in groups for phrase in group}
        longest_first = sorted(self.group, key=len, reverse=True)
        self.pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})(?!\w)")

    @classmethod
    def read(cls, path: Path = VERBS) -> "VerbSwap":
        lines = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return cls([[phrase.strip() for phrase in line] for line in lines])

    def __call__(self, text: str, rng: random.Random) -> str | None:
        """None where no phrase of the list is in the text."""
        found = list(self.pattern.finditer(text))
        if not found:
            return None
        match = rng.choice(found)
        return text[: match.start()] + rng.choice(self.group[match[1]]) + text[match.end() :]


def mask_words(
    ids: torch.Tensor, mask: torch.Tensor, mask_id: int, rng: random.Random, share: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B,L) with a share of each row's words, at least one, replaced by mask_id; labels (B,L) that hold those words
    and -100 elsewhere. The first token of a row is no word."""
    ids, labels = ids.clone(), torch.full_like(ids, -100)
    for row, length in enumerate(mask.sum(1).tolist()):
        words = range(1, length)
        chosen = rng.sample(words, max(1, round(share * len(words)))) if len(words) else []
        labels[row, chosen] = ids[row, chosen]
        ids[row, chosen] = mask_id
    return ids, labels
