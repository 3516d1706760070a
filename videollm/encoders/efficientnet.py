"""EfficientNet-Lite0, as TensorFlow published it, for inference.

https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Batch norms are folded into the
convolutions when the weights are read, so that a block is three convolutions and nothing else.

Shapes: T frames.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from videollm.errors import AssetError

CLASSES = 1000
EPSILON = 1e-3  # of the batch norms
# Of each stage: kernel, stride of the first block, expansion, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD = 32, 1280  # channels
TENSORS = 6  # of a convolution in the file: weight, then scale, shift, mean, variance and step count of its batch norm


class Convolution(nn.Module):
    """A convolution with TensorFlow's "SAME" padding, which puts the odd pixel after the picture. ReLU6 may follow."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)
        self.kernel, self.stride, self.relu = kernel, stride, relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:  # then padding differs between the sides
            rows, columns = (max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        x = self.conv(x)
        return F.relu6(x, inplace=True) if self.relu else x


class Block(nn.Module):
    """Expand (1x1), depthwise, project (1x1, linear); the input is added where its shape is the output's."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = channels * expansion
        expand = [Convolution(channels, wide)] if expansion > 1 else []
        depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.steps = nn.Sequential(*expand, depthwise, Convolution(wide, out, relu=False))
        self.adds_input = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x).add_(x) if self.adds_input else self.steps(x)


class EfficientNetLite0(nn.Module):
    """The layers turn pictures (T,3,224,224), scaled to about [-1,1], into feature maps (T,1280,7,7).

    The classifier turns the mean of a map, or of a part of it, into logits (T,1000).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, STEM, 3, 2)]
        channels = STEM
        for kernel, stride, expansion, out, count in STAGES:
            for number in range(count):
                layers.append(Block(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
        layers.append(Convolution(channels, HEAD))
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns class logits (T,1000)."""
        return self.classifier(self.layers(images).mean((-2, -1)))


def load_efficientnet(file: Path) -> EfficientNetLite0:
    """Returns the frozen network with the tensors of `file`, which are those of the published state dict in its order.

    Raises AssetError if their number or shapes are not the network's.
    """
    network = EfficientNetLite0().eval().requires_grad_(False)
    tensors = iter([tensor for _, tensor in sorted(load_file(file).items())])
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        for conv in convolutions:
            conv.load_state_dict(_folded(tensors))
        network.classifier.load_state_dict({"weight": next(tensors), "bias": next(tensors)})
    except (RuntimeError, StopIteration) as error:
        raise AssetError(f"{file} does not hold EfficientNet-Lite0 in the order of its layers ({error})") from error
    if left := sum(1 for _ in tensors):
        raise AssetError(f"{file} holds {left} tensors more than EfficientNet-Lite0")
    return network


def _folded(tensors: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weight and bias of the next convolution with its batch norm folded in."""
    weight, scale, shift, mean, variance, _ = (next(tensors).double() for _ in range(TENSORS))
    factor = scale / (variance + EPSILON).sqrt()
    return {"weight": (weight * factor[:, None, None, None]).float(), "bias": (shift - mean * factor).float()}
