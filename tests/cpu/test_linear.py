"""Products from a layout made once are those of the layer as it is."""

import pytest
import torch
import torch.nn.functional as F

from videollm.cpu.linear import PackedLinear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 17, 300])
@pytest.mark.parametrize("with_bias", [True, False])
def test_products_are_those_of_the_layer(dtype: torch.dtype, rows: int, with_bias: bool):
    generator = torch.Generator().manual_seed(rows)
    weight, bias, x = (torch.randn(*shape, generator=generator) for shape in [(80, 48), (80,), (rows, 48)])
    exact = F.linear(x.to(dtype).double(), weight.to(dtype).double(), bias.to(dtype).double() if with_bias else None)
    product = PackedLinear(weight.to(dtype), bias.to(dtype) if with_bias else None)
    torch.testing.assert_close(product(x.to(dtype)), exact.to(dtype))
