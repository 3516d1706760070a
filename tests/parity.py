"""Numbers of published systems, computed once by their official code, that tests compare ours with.

`tests/parity_data` holds them for every system; its README.md says where they come from. The folder that the
environment variable VIDEOLLM_PARITY_DIR names, of the same layout, may hold further cases.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

RECORDED = Path(__file__).parent / "parity_data"
Groups = dict[str, dict[str, torch.Tensor]]


def load_parity(case: str) -> Groups:
    """Return the arrays of a case "SYSTEM/FILE" by the first part of their names: "state", "input", "inter" (values
    inside the model), "output", "grad", "gradnorm".

    Weights are stored as float16, to which they were rounded before the official code ran, and come in float32.
    Raises FileNotFoundError: absent data fails a test and never skips it.
    """
    groups: Groups = {}
    for name, tensor in load_file(_find(f"{case}.safetensors")).items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return groups


def load_parity_config(case: str) -> dict[str, Any]:
    """Return the configuration that the official code ran with, and for metrics also its results."""
    arrays = _find(f"{case}.safetensors")
    return json.loads((arrays.parent / "README.json").read_text())[arrays.name]["config"]


def with_unrecorded(recorded: Sequence[str], *unrecorded: str) -> list[str]:
    """Return the recorded cases, and where VIDEOLLM_PARITY_DIR is set also those that only its folder holds."""
    return [*recorded, *(unrecorded if os.environ.get("VIDEOLLM_PARITY_DIR") else ())]


def _find(file: str) -> Path:
    folders = [RECORDED]
    if named := os.environ.get("VIDEOLLM_PARITY_DIR"):
        folders.append(Path(named))
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise FileNotFoundError(f"no parity data {file} in {', '.join(map(str, folders))}")
