"""Run EfficientNet-Lite0 on a CPU through OpenVINO, which takes a fifth of PyTorch's time for it.

The products stay in float32: in bfloat16 they take half of that, but a tenth of the segments of real clips got another
tag. The graph is built from the network's layers, one operation after another, so that nothing is traced or exported.
"""

import importlib.util
import platform
from collections.abc import Callable
from typing import Any

import torch

from videollm.cpu.openvino_runtime import import_openvino
from videollm.encoders.efficientnet import Block, Convolution, EfficientNetLite0

# The processors for which it was measured. Elsewhere PyTorch computes the same.
MACHINES = ("x86_64", "AMD64")


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether networks in `dtype` on `device` run faster here through OpenVINO, and whether it is installed."""
    fits = device.type == "cpu" and dtype == torch.float32 and platform.machine() in MACHINES
    return fits and importlib.util.find_spec("openvino") is not None


def compiled(network: EfficientNetLite0, side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function that does what `network.layers` does, for float32 pictures (T,3,side,side)."""
    openvino = import_openvino()
    from openvino import opset13 as operations

    pictures = operations.parameter([-1, 3, side, side], openvino.Type.f32)
    maps: Any = pictures
    for layer in network.layers:
        maps = _layer(operations, layer, maps)
    model_of: Any = openvino.Model  # its type stub binds the constructor of another class
    model = model_of([maps], [pictures])
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    run = openvino.compile_model(model, "CPU", properties)
    # A request of its own for each call: its output is not overwritten by the next call, or by that of another thread.
    return lambda images: torch.from_numpy(run.create_infer_request().infer([images.numpy()])[0])


def _layer(operations: Any, layer: torch.nn.Module, x: Any) -> Any:
    """Returns the node of a layer's output, given the node of its input."""
    if isinstance(layer, Convolution):
        return _convolution(operations, layer, x)
    assert isinstance(layer, Block)  # the network has no other
    out = x
    for step in layer.steps:
        out = _layer(operations, step, out)
    return operations.add(out, x) if layer.adds_input else out


def _convolution(operations: Any, layer: Convolution, x: Any) -> Any:
    conv, strides = layer.conv, [layer.stride, layer.stride]
    assert conv.bias is not None  # the batch norm that is folded in
    weight, bias = conv.weight.float().numpy(), conv.bias.float().numpy()[None, :, None, None]
    if conv.groups > 1:
        weight, operation = weight[:, None], operations.group_convolution
    else:
        operation = operations.convolution
    out = operation(x, weight, strides, [0, 0], [0, 0], [1, 1], auto_pad="SAME_UPPER")  # TensorFlow's padding
    out = operations.add(out, bias)
    return operations.clamp(out, 0.0, 6.0) if layer.relu else out
