"""Where the parity data lies: tensors of published systems, computed by their official code."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

BESIDE = Path(__file__).parents[2] / "shared" / "parity"


def load_parity(system: str, file: str) -> dict[str, dict[str, torch.Tensor]]:
    """Arrays of `system`/`file`.safetensors by the first part of their names: "state", "input", "inter", "output",
    "gradnorm". Weights, stored as float16, come in float32, as they were run.

    Skips the test where neither the folder that VIDEOLLM_PARITY_DIR names nor `BESIDE` exists.
    """
    folders = [Path(os.environ.get("VIDEOLLM_PARITY_DIR", BESIDE)), BESIDE]
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        pytest.skip(f"no parity data: set VIDEOLLM_PARITY_DIR to its folder, or put it at {BESIDE}")
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / system / f"{file}.safetensors").items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return groups
