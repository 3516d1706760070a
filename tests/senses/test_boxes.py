"""Overlaps of boxes are those of torchvision."""

import torch
from torchvision import ops

from videollm.senses.boxes import box_iou, nms


def some_boxes(count: int) -> torch.Tensor:
    corner, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(count))
    return torch.cat((corner, corner + size), 1)


def test_overlaps_are_those_of_torchvision():
    boxes, others = some_boxes(30), some_boxes(20)
    torch.testing.assert_close(box_iou(boxes, others), ops.box_iou(boxes, others))


def test_the_boxes_that_are_kept_are_those_of_torchvision():
    boxes = some_boxes(60)
    scores, classes = torch.linspace(0, 1, 60)[torch.randperm(60)], torch.arange(60) % 3
    for overlap in (0.1, 0.3, 0.6):
        assert nms(boxes, scores, overlap).tolist() == ops.nms(boxes, scores, overlap).tolist()
        expected = ops.batched_nms(boxes, scores, classes, overlap)
        assert nms(boxes, scores, overlap, classes).tolist() == expected.tolist()
    assert nms(boxes[:0], scores[:0], 0.5).tolist() == []
