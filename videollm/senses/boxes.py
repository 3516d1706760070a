"""Overlaps of boxes. torchvision has the same functions, but imports a compiler with them, which takes a second and
160 MB.

Shapes: N and M boxes. A box is left, top, right, bottom.
"""

import torch


def box_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Returns the intersection over union (N,M) of boxes (N,4) and others (M,4)."""
    corner, other = torch.max(boxes[:, None, :2], others[:, :2]), torch.min(boxes[:, None, 2:], others[:, 2:])
    shared = (other - corner).clamp(min=0).prod(-1)
    return shared / (_areas(boxes)[:, None] + _areas(others) - shared)


def nms(boxes: torch.Tensor, scores: torch.Tensor, overlap: float, classes: torch.Tensor | None = None) -> torch.Tensor:
    """Returns the places (M,) of the boxes (N,4) that non-maximum suppression keeps, those with the best scores (N,)
    first: a box is dropped where it overlaps a better one of its class by more than `overlap`. classes (N,): None where
    all are of one."""
    order = scores.argsort(descending=True, stable=True)
    drops = box_iou(boxes[order], boxes[order]) > overlap
    if classes is not None:
        drops &= classes[order][:, None] == classes[order]
    drops, is_dropped = drops.cpu(), torch.zeros(len(order), dtype=torch.bool)
    for place in range(len(order)):
        if not is_dropped[place]:
            is_dropped[place + 1 :] |= drops[place, place + 1 :]
    return order[~is_dropped.to(order.device)]


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
