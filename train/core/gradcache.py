"""Gradients of a large contrastive batch in the memory of a small one (GradCache, Gao et al. 2021)."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn

TensorBatch = Mapping[str, torch.Tensor]


class PiecewiseLoss(Protocol):
    """A loss whose batch can be encoded in pieces before rows are compared with each other."""

    def encode(self, batch: TensorBatch) -> dict[str, torch.Tensor]: ...

    def loss(self, rows: dict[str, torch.Tensor]) -> torch.Tensor: ...


def cached_backward(objective: PiecewiseLoss, batch: TensorBatch, chunk: int) -> torch.Tensor:
    """Returns the loss of the whole batch, and adds its gradients to those of the parameters.

    Pieces of `chunk` rows are encoded without a graph, and the loss of all rows gives the gradient of each encoded row.
    Each piece is then encoded again with a graph, which passes its part of this gradient to the parameters. Only one
    graph exists at a time. The cost is a second forward pass.
    """
    pieces = [*_pieces(batch, chunk)]
    states, encoded = [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(_random_state())
            encoded.append(objective.encode(piece))
    rows = {name: torch.cat([e[name] for e in encoded]) for name in encoded[0]}
    leaves = {name: x.requires_grad_() for name, x in rows.items() if x.is_floating_point()}
    after = _random_state()
    loss = objective.loss(rows)
    loss.backward()
    for number, (piece, state) in enumerate(zip(pieces, states, strict=True)):
        _set_random_state(state)  # dropout must drop what it dropped in the first pass
        again = objective.encode(piece)
        piece_rows = slice(number * chunk, (number + 1) * chunk)
        wanted = [
            (again[n], x.grad[piece_rows]) for n, x in leaves.items() if x.grad is not None and again[n].requires_grad
        ]
        torch.autograd.backward([x for x, _ in wanted], [gradient for _, gradient in wanted])
    _set_random_state(after)
    return loss.detach()


def average_over_ranks(module: nn.Module) -> None:
    """Averages gradients over ranks, as DistributedDataParallel does in a backward pass through it."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def _pieces(batch: TensorBatch, chunk: int) -> Iterator[TensorBatch]:
    for start in range(0, len(batch["ids"]), chunk):
        yield {name: x[start : start + chunk] for name, x in batch.items()}


def _random_state() -> list[torch.Tensor]:
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def _set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1:])
