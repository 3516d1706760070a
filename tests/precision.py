"""Weights in float32 also where the processor multiplies in bfloat16, for tests that compare numbers or tokens."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def in_float32() -> Iterator[None]:
    """Models that are loaded meanwhile with dtype "auto" have weights in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict)
        yield
