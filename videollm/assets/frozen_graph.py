"""TensorFlow's frozen graphs read as data, for weights that are published in no other form.

A frozen graph is a protocol buffer: GraphDef.node (field 1) with name (1), operation (2) and attributes (5), of which
the constants' "value" holds a tensor. Nothing of it is executed.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from videollm.errors import AssetError

# Of the network: blocks of the backbone, feature maps, and the channels of those beyond the backbone.
BLOCKS, MAPS, EXTRAS = 17, 6, ((256, 512), (128, 256), (128, 256), (64, 128))
FLOAT = 1  # DataType.DT_FLOAT
_BACKBONE = "FeatureExtractor/MobilenetV2/"


def frozen_ssd(source: Path, target: Path) -> None:
    """Write the detector of `source/frozen_inference_graph.pb` as `target/model.safetensors`.

    Raises AssetError where the file is not that graph.
    """
    import torch
    from safetensors.torch import save_file

    constants = read_constants((source / "frozen_inference_graph.pb").read_bytes())
    state: dict[str, np.ndarray] = {}
    try:
        for ours, theirs in _names().items():
            state[f"{ours}.weight"], state[f"{ours}.bias"] = _convolution(constants, theirs)
    except KeyError as error:
        raise AssetError(f"frozen_inference_graph.pb holds no constant {error}") from error
    save_file({name: torch.tensor(array) for name, array in state.items()}, target / "model.safetensors")


def _names() -> dict[str, str]:
    """The convolutions' names in `videollm.senses.detector.SSDMobileNetV2` and in the graph."""
    names = {"stem.conv": f"{_BACKBONE}Conv", "last.conv": f"{_BACKBONE}Conv_1"}
    for number in range(BLOCKS):
        theirs = f"{_BACKBONE}expanded_conv" + (f"_{number}" if number else "")
        for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
            names[f"blocks.{number}.{part}.conv"] = f"{theirs}/{part}"
    for number, (inside, out) in enumerate(EXTRAS):
        level = number + 2
        names[f"extras.{number}.0.conv"] = f"{_BACKBONE}layer_19_1_Conv2d_{level}_1x1_{inside}"
        names[f"extras.{number}.1.conv"] = f"{_BACKBONE}layer_19_2_Conv2d_{level}_3x3_s2_{out}_depthwise"
        names[f"extras.{number}.2.conv"] = f"{_BACKBONE}layer_19_2_Conv2d_{level}_3x3_s2_{out}"
    for number in range(MAPS):
        names[f"boxes.{number}"] = f"BoxPredictor_{number}/BoxEncodingPredictor"
        names[f"classes.{number}"] = f"BoxPredictor_{number}/ClassPredictor"
    return names


def _convolution(constants: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Weight (out,in,height,width) and bias (out,), with the batch norm that follows folded in."""
    if (depthwise := constants.get(f"{name}/depthwise_weights")) is not None:
        height, width, channels, _ = depthwise.shape
        weight = depthwise.transpose(2, 3, 0, 1).reshape(channels, 1, height, width)
    else:
        weight = constants[f"{name}/weights"].transpose(3, 2, 0, 1)
    if (bias := constants.get(f"{name}/biases")) is None:
        gamma, beta = constants[f"{name}/BatchNorm/gamma"], constants[f"{name}/BatchNorm/beta"]
        mean, variance = constants[f"{name}/BatchNorm/moving_mean"], constants[f"{name}/BatchNorm/moving_variance"]
        scale = gamma / np.sqrt(variance.astype(np.float64) + 0.001)  # the graph's epsilon
        weight, bias = weight * scale[:, None, None, None], beta - mean * scale
    return np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)


def read_constants(graph: bytes) -> dict[str, np.ndarray]:
    """The float constants of a GraphDef by name. Raises AssetError where the bytes are no protocol buffer."""
    constants = {}
    try:
        for _, node in _fields(graph, only=1):
            name = operation = ""
            value = None
            for field, content in _fields(node):
                if field == 1:
                    name = content.decode()
                elif field == 2:
                    operation = content.decode()
                elif field == 5:
                    value = _tensor_attribute(content, value)
            if operation == "Const" and value is not None:
                constants[name] = value
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise AssetError(f"not a frozen graph ({error})") from error
    return constants


def _tensor_attribute(entry: bytes, otherwise: np.ndarray | None) -> np.ndarray | None:
    """The tensor of the attribute "value" (AttrValue.tensor is field 8), `otherwise` for another attribute."""
    parts = dict(_fields(entry))
    if parts.get(1) != b"value":
        return otherwise
    tensor = dict(_fields(parts[2])).get(8)
    return None if tensor is None else _float_tensor(tensor)


def _float_tensor(tensor: bytes) -> np.ndarray | None:
    """TensorProto: dtype (1), shape (2, whose dimensions are field 2), content (4). None for other types than float."""
    kind, shape, content = 0, [], b""
    for field, value in _fields(tensor):
        if field == 1:
            kind = value
        elif field == 2:
            shape = [dict(_fields(size)).get(1, 0) for _, size in _fields(value, only=2)]
        elif field == 4:
            content = value
    if kind != FLOAT or len(content) != 4 * int(np.prod(shape)):
        return None
    return np.frombuffer(content, "<f4").reshape(shape)


def _fields(data: bytes, only: int | None = None) -> Iterator[tuple[int, Any]]:
    """Each field's number and its content: bytes where it has a length, else a number."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value = data[at : at + size]
            at += size
        if only is None or field == only:
            yield field, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
