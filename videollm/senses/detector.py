"""SSD with a MobileNetV2 backbone (Liu et al. 2016, Sandler et al. 2018), as in TensorFlow's object detection models.

The network is `ssd_mobilenet_v2_coco_2018_03_29`: 300 x 300 pixels, 1,917 anchors, the 80 things of COCO. Its batch
norms are folded into the convolutions when the weights are converted, see `videollm/assets/frozen_graph.py`.

Shapes: T pictures, A anchors, K classes.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from videollm.cpu import openvino_networks
from videollm.senses.boxes import nms

SIDE = 300
GRIDS = (19, 10, 5, 3, 2, 1)  # cells along a side of the six feature maps
ANCHORS = (3, 6, 6, 6, 6, 6)  # boxes of a cell
CLASSES = 91  # COCO's numbers run to 90 with holes; 0 is the background
# Of each stage of MobileNetV2: expansion, channels, blocks, stride of the first block (Sandler et al., table 2).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))  # of each further feature map: channels inside and out
FIRST_MAP = 13  # the block whose expanded activations are the first feature map
OVERLAP = 0.6  # two boxes of one class that overlap more than this are one object
INSIDE = 0.85  # a box of which this share lies within a better one of its class is a part of it

# COCO's names, but "plant" for "potted plant", because the detector finds it in bushes too.
# fmt: off
NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)
# fmt: on
# COCO planned 91 things and published 80; the numbers of the others are never used.
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO = dict(zip((n for n in range(1, CLASSES) if n not in UNUSED), NAMES, strict=True))


class ConvRelu(nn.Module):
    """A convolution with TensorFlow's "SAME" padding, which puts an odd pixel after the picture, and ReLU6."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(channels, out, kernel, stride, groups=groups), relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if kernel > 1:
            rows, columns = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        x = self.conv(x)
        return x.clamp(0, 6) if self.relu else x


class InvertedResidual(nn.Module):
    """expand (1x1), depthwise (3x3), project (1x1, linear), and the input added where its shape is the output's."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int):
        super().__init__()
        wide = channels * expansion
        self.expand = ConvRelu(channels, wide) if expansion > 1 else None
        self.depthwise = ConvRelu(wide, wide, 3, stride, groups=wide)
        self.project = ConvRelu(wide, out, relu=False)
        self.adds_input = stride == 1 and channels == out

    def outputs(self, x: Any, convolve: "Convolve") -> tuple[Any, Any]:
        """The block's output, and its expanded activations."""
        wide = convolve(self.expand, x) if self.expand else x
        out = convolve(self.project, convolve(self.depthwise, wide))
        return (x + out if self.adds_input else out), wide


# Applies a convolution to a tensor, or to the node of one in a graph.
Convolve = Callable[[nn.Module, Any], Any]


class SSDMobileNetV2(nn.Module):
    anchors: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvRelu(3, 32, 3, 2)
        self.blocks, channels = nn.ModuleList(), 32
        for expansion, out, count, stride in STAGES:
            for number in range(count):
                self.blocks.append(InvertedResidual(channels, out, expansion, stride if number == 0 else 1))
                channels = out
        self.last = ConvRelu(channels, 1280)
        self.extras, channels = nn.ModuleList(), 1280
        for inside, out in EXTRAS:
            parts = ConvRelu(channels, inside), ConvRelu(inside, inside, 3, 2, groups=inside), ConvRelu(inside, out)
            self.extras.append(nn.Sequential(*parts))
            channels = out
        widths = (576, 1280, *(out for _, out in EXTRAS))
        self.boxes = nn.ModuleList(nn.Conv2d(w, 4 * n, 3, padding=1) for w, n in zip(widths, ANCHORS, strict=True))
        self.classes = nn.ModuleList(
            nn.Conv2d(w, CLASSES * n, 3, padding=1) for w, n in zip(widths, ANCHORS, strict=True)
        )
        self.register_buffer("anchors", _anchors(), persistent=False)

    @classmethod
    def load(cls, directory: Path) -> "SSDMobileNetV2":
        """From a directory that `videollm.assets.fetch` gives."""
        with torch.device("meta"):
            model = cls()
        model.anchors = _anchors()
        # The file stays memory-mapped: what runs the network keeps weights in an order of its own.
        model.load_state_dict(load_file(directory / "model.safetensors"), assign=True)
        return model.eval().requires_grad_(False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """pixels: uint8 (T,3,H,W), RGB. Boxes (T,A,4), left, top, right, bottom as fractions of the picture, and the
        probability of each of COCO's numbers from 1 (T,A,90)."""
        small = F.interpolate(pixels.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        found = self._network(small / 127.5 - 1)
        offsets = torch.cat([_flat(m, 4) for m in found[: len(GRIDS)]], 1)
        logits = torch.cat([_flat(m, CLASSES) for m in found[len(GRIDS) :]], 1)
        return _decode(offsets, self.anchors), logits.sigmoid()[..., 1:]

    @property
    def _network(self) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        """A function of pictures (T,3,300,300), scaled to [-1,1], that returns what `head_outputs` does."""
        if openvino_networks.serves(self.anchors.device, self.stem.conv.weight.dtype):
            return self._compiled
        return lambda pictures: self.head_outputs(pictures, lambda layer, x: layer(x))

    @functools.cached_property
    def _compiled(self) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        def graph(operations: Any, pictures: Any) -> list[Any]:
            def convolve(layer: nn.Module, x: Any) -> Any:
                if isinstance(layer, ConvRelu):
                    return openvino_networks.convolution(operations, layer.conv, x, relu=layer.relu)
                assert isinstance(layer, nn.Conv2d)  # a head
                return openvino_networks.convolution(operations, layer, x, relu=False)

            return self.head_outputs(pictures, convolve)

        return openvino_networks.compiled(graph, SIDE)

    def head_outputs(self, pictures: Any, convolve: Convolve) -> list[Any]:
        """The offsets of boxes (T,4 a box,rows,columns) for each feature map, then the logits of classes for each."""
        x, maps = convolve(self.stem, pictures), []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            x, wide = block.outputs(x, convolve)
            if number == FIRST_MAP:
                maps.append(wide)
        maps.append(convolve(self.last, x))
        for extra in self.extras:
            assert isinstance(extra, nn.Sequential)
            maps.append(functools.reduce(lambda x, layer: convolve(layer, x), list(extra), maps[-1]))
        return [convolve(head, m) for heads in (self.boxes, self.classes) for head, m in zip(heads, maps, strict=True)]

    @torch.inference_mode()
    def detect(self, pixels: torch.Tensor, least: float) -> list[list[tuple[str, float, torch.Tensor]]]:
        """For each picture the objects with a score of at least `least`: name, score, box (4,)."""
        boxes, scores = self(pixels)
        boxes, found = boxes.clamp(0, 1), []
        for box, score in zip(boxes, scores, strict=True):
            anchor, number = (score >= least).nonzero(as_tuple=True)
            kept = nms(box[anchor], score[anchor, number], OVERLAP, number)
            kept = kept[~_inside_another(box[anchor[kept]], number[kept])]
            objects = [(COCO.get(int(number[k]) + 1), float(score[anchor[k], number[k]]), box[anchor[k]]) for k in kept]
            found.append([(name, value, where.cpu()) for name, value, where in objects if name is not None])
        return found


def _inside_another(boxes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """bool (n,): boxes that lie mostly within a better one of their class, which comes before them: a face and
    shoulders found beside the whole person overlap too little for non-maximum suppression."""
    corner, other = torch.max(boxes[:, None, :2], boxes[:, :2]), torch.min(boxes[:, None, 2:], boxes[:, 2:])
    shared = (other - corner).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1e-9)
    same = numbers[:, None] == numbers
    return (same & (shared / area[:, None] > INSIDE)).tril(-1).any(1)


def _flat(x: torch.Tensor, last: int) -> torch.Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, last)


def _decode(offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Boxes from offsets (T,A,4): y and x in tenths of the anchor's size, height and width in fifths of a logarithm."""
    y, x, height, width = anchors.unbind(-1)
    centre_y, centre_x = offsets[..., 0] / 10 * height + y, offsets[..., 1] / 10 * width + x
    half_h, half_w = (offsets[..., 2] / 5).exp() * height / 2, (offsets[..., 3] / 5).exp() * width / 2
    return torch.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), -1)


def _anchors() -> torch.Tensor:
    """(A,4): y, x, height, width of every anchor, as fractions of the picture."""
    scales = [0.2 + 0.75 * k / 5 for k in range(6)] + [1.0]
    rows = []
    for k, cells in enumerate(GRIDS):
        shapes = [(scales[k], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        shapes.append((math.sqrt(scales[k] * scales[k + 1]), 1.0))
        if k == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        rows += [
            ((y + 0.5) / cells, (x + 0.5) / cells, scale / math.sqrt(ratio), scale * math.sqrt(ratio))
            for y in range(cells)
            for x in range(cells)
            for scale, ratio in shapes
        ]
    return torch.tensor(rows)
