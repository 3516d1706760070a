"""EfficientNet-Lite0 as a graph of OpenVINO."""

from typing import Any

import torch

from videollm.cpu.openvino_networks import convolution
from videollm.encoders.efficientnet import Block, Convolution, EfficientNetLite0


def feature_maps(network: EfficientNetLite0, operations: Any, pictures: Any) -> list[Any]:
    """Returns the node of what `network.layers` computes, given the node of pictures (T,3,H,W)."""
    maps = pictures
    for layer in network.layers:
        maps = _layer(operations, layer, maps)
    return [maps]


def _layer(operations: Any, layer: torch.nn.Module, x: Any) -> Any:
    """Returns the node of a layer's output, given the node of its input."""
    if isinstance(layer, Convolution):
        return convolution(operations, layer.conv, x, relu=layer.relu)
    assert isinstance(layer, Block)  # the network has no other
    out = x
    for step in layer.steps:
        out = _layer(operations, step, out)
    return operations.add(out, x) if layer.adds_input else out
