"""Convolutional networks on a CPU through OpenVINO, which takes a fifth to a third of PyTorch's time for them.

The products stay in float32: in bfloat16 they take half of that, but a tenth of the segments of real clips got another
tag. A graph is built from a network's layers, one operation after another, so that nothing is traced or exported.
"""

import importlib.util
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from videollm.cpu.openvino_runtime import import_openvino

# The processors for which it was measured. Elsewhere PyTorch computes the same.
MACHINES = ("x86_64", "AMD64")
BATCH = 4  # pictures of a pass; more take more memory and no less time


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether networks in `dtype` on `device` run faster here through OpenVINO, and whether it is installed."""
    fits = device.type == "cpu" and dtype == torch.float32 and platform.machine() in MACHINES
    return fits and importlib.util.find_spec("openvino") is not None


def compiled(graph: Callable[[Any, Any], list[Any]], side: int) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Returns a function of float32 pictures (T,3,side,side) that computes the outputs of a graph.

    graph: Returns the nodes of the outputs, given OpenVINO's operations and the node of the pictures.
    """
    openvino = import_openvino()
    from openvino import opset13 as operations

    pictures = operations.parameter([-1, 3, side, side], openvino.Type.f32)
    model_of: Any = openvino.Model  # its type stub binds the constructor of another class
    model = model_of(graph(operations, pictures), [pictures])
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    run = openvino.compile_model(model, "CPU", properties)

    def outputs(images: torch.Tensor) -> list[torch.Tensor]:
        # A request of its own for each call: its outputs are not overwritten by the next call, or by another thread's.
        request = run.create_infer_request()
        parts = [[torch.tensor(o) for o in request.infer([part.numpy()]).values()] for part in images.split(BATCH)]
        return [torch.cat(output) for output in zip(*parts, strict=True)]

    return outputs


def convolution(operations: Any, conv: nn.Conv2d, x: Any, relu: bool) -> Any:
    """Returns the node of a convolution with a bias and TensorFlow's "SAME" padding, which ReLU6 may follow."""
    assert conv.bias is not None  # the batch norm that is folded in
    weight, bias = conv.weight.float().numpy(), conv.bias.float().numpy()[None, :, None, None]
    if conv.groups > 1:
        weight, operation = weight[:, None], operations.group_convolution
    else:
        operation = operations.convolution
    weight = operations.constant(np.ascontiguousarray(weight), shared_memory=True)
    out = operation(x, weight, list(conv.stride), [0, 0], [0, 0], [1, 1], auto_pad="SAME_UPPER")
    out = operations.add(out, bias)
    return operations.clamp(out, 0.0, 6.0) if relu else out
