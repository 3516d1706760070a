"""Gathering of rows from all ranks, with their gradients. Only losses use it, and models do not know about ranks."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective


def gather(rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gathers each tensor (N,...) from all ranks to (ranks * N,...), in order of rank. Shapes must agree across ranks.

    The gradient of a row is the sum of its gradients over the losses of all ranks. If every rank computes the same loss
    of all rows, and data parallel training then averages gradients over ranks, the result is the gradient of this loss,
    as if one process had the whole batch. CLIP4Clip's gather keeps only the local part, which is 1/ranks of it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return dict(rows)
    return {name: _gather(tensor) for name, tensor in rows.items()}


def gather_rows(x: torch.Tensor) -> torch.Tensor:
    """Returns the rows of all ranks in order of rank. The number of rows may differ between ranks. Gradients flow
    back."""
    count = gather({"rows": torch.tensor([len(x)], device=x.device)})["rows"].tolist()
    # Collectives need equal shapes, so that ranks with fewer rows are padded and the padding is removed afterwards.
    padded = torch.cat((x, x.new_zeros(max(count) - len(x), *x.shape[1:])))
    parts = gather({"rows": padded})["rows"].split(max(count)) if max(count) else [x]
    return torch.cat([part[:n] for part, n in zip(parts, count, strict=True)])


def _gather(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous()
    if tensor.is_floating_point() and tensor.requires_grad:
        return torch.cat(collective.all_gather(tensor))
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)
