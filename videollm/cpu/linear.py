"""Linear layers whose weights are laid out once for the CPU that multiplies with them."""

import torch
import torch.nn.functional as F

ROWS = 16  # the layout suits any number of rows from two


class Packed:
    """x (rows,in) -> F.linear(x, weight, bias) for a weight (out,in) that no longer changes.

    In bf16 on a CPU oneDNN multiplies several rows from a layout of its own, which F.linear makes again at each call: a
    third of the time for 2 to 300 rows. Here it is made once, as a copy of the weight.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.weight, self.bias = weight, bias
        half = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        pays = half and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._layout = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if pays else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._layout is None or x.shape[0] == 1:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._layout, self.bias, "none", [], "")
