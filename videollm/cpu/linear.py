"""Linear layers whose weights are laid out once for oneDNN, the library that multiplies matrices on a CPU."""

import torch
import torch.nn.functional as F
from torch import nn

ROWS = 16  # oneDNN needs a number of input rows; its layout for 16 rows is as fast for any number from two


class PackedLinear:
    """Computes F.linear(x, weight, bias) for x (rows, in) and a weight (out, in) that no longer changes.

    In bfloat16, oneDNN multiplies two or more rows from a layout of its own. F.linear converts the weight to it at each
    call, which takes a third of the time for 2 to 300 rows. This class converts once and keeps the converted copy, so
    that the weight takes twice its memory. In other formats and on other devices, it is F.linear.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.weight, self.bias = weight, bias
        bf16_on_cpu = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        pays = bf16_on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._layout = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if pays else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # One row is a matrix-vector product, which is limited by memory and reads the plain layout as fast.
        if self._layout is None or x.shape[0] == 1:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._layout, self.bias, "none", [], "")


def stack_linears(linears: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the weights of several layers as one matrix (sum of out, in), and their biases as one vector.

    The weights of the layers become slices of this matrix, so that stacking takes no memory. Layers that are already
    stacked are not changed.
    """
    weights = [linear.weight.detach() for linear in linears]
    rows, first = [len(w) for w in weights], weights[0]
    ends = [w.storage_offset() + w.numel() for w in weights]
    stacked_already = all(
        w.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for w in weights
    ) and all(w.storage_offset() == end for w, end in zip(weights[1:], ends, strict=False))
    if stacked_already:
        stacked = first.as_strided((sum(rows), first.shape[1]), first.stride())
    else:
        stacked = torch.cat(weights)
        for linear, part in zip(linears, stacked.split(rows), strict=True):
            linear.weight.data = part
    biases = [linear.bias for linear in linears]
    return stacked, torch.cat([*biases]) if biases[0] is not None else None
