"""Training and held-out losses of the experiment `objectives.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from train.data.rendered import RenderedClip, RenderedClips

TEST_SEED, TRAIN_SEED = 0, 1
BATCH = 16
LEARNING_RATE = 2.5e-3

Collate = Callable[[Sequence[Any]], dict[str, Any]]
Loss = Callable[[dict[str, Any]], torch.Tensor]
Scores = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by name: before and after, or without and with, of each clip


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of clips and of steps."""

    clips: int
    tests: int
    few: int
    before: int
    after: int
    pixel_steps: int


def whole(output: dict[str, Any]) -> torch.Tensor:
    return output["loss"]


def trained(
    module: nn.Module,
    collate: Collate,
    items: Sequence[Any] | RenderedClips,
    steps: int,
    seed: int,
    *,
    batch: int = BATCH,
    loss: Loss = whole,
) -> None:
    """Trains a module on batches of items, which are taken in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    order = torch.cat([torch.randperm(len(items), generator=generator) for _ in range(1 + steps * batch // len(items))])
    own = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=LEARNING_RATE, weight_decay=0.02)
    module.train()
    for numbers in order[: steps * batch].view(steps, batch).tolist():
        optimizer.zero_grad()
        loss(module(**collate([items[i] for i in numbers]))).backward()
        nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
    module.eval()


@torch.no_grad()
def held_out(
    module: nn.Module,
    collate: Collate,
    items: Sequence[Any],
    loss: Loss = whole,
) -> np.ndarray:
    """Returns the loss of each batch of `BATCH` items; all random choices are the same in each call."""
    module.eval()
    torch.manual_seed(TEST_SEED)
    starts = range(0, len(items) - BATCH + 1, BATCH)
    return np.array([float(loss(module(**collate(items[start : start + BATCH])))) for start in starts])


def clips(count: int, seed: int) -> list[RenderedClip]:
    drawn = RenderedClips(count, seed, sound=True)
    return [drawn[i] for i in range(count)]
