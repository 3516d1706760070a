"""`videollm import-official`: a published checkpoint file as a directory of this project."""

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from videollm.errors import CheckpointError
from videollm.retrieval.model import save
from videollm.retrieval.published import load

_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # of torch.save's archives and, before 1.6, its pickles


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a published checkpoint file: safetensors, or a pickle of tensors alone, at its top or under
    "model" or "state_dict"."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with path.open("rb") as file:
        if not file.read(4).startswith(_TORCH_MAGIC):
            raise CheckpointError(f"{path} is not a file of torch.save or safetensors: give a published checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, LookupError, RuntimeError, UnpicklingError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of tensors: {reason}. Files that hold other Python objects are not "
            "opened: save their state dict alone, with torch.save or as safetensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, at the top or under 'model'")
    return dict(content)


def convert(path: Path, system: str, folder: Path) -> dict[str, Any]:
    """Write a published checkpoint file as a directory for `videollm.retrieval.model.load`. Returns what was made."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: give a published checkpoint")
    model = load(system, read(path), {}).model
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made = {
        "out": str(folder),
        "system": system,
        "head": model.config.head.kind,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": digest,
    }
    save(model, folder, _CARD.format(file=path.name, **made))
    return made


_CARD = """# {system}

Converted from `{file}` (sha256 {sha256}), {parameters} parameters, head `{head}`. Data, recipe, results and licence are
those of the published checkpoint. What its weights do not hold (numbers of attention heads, a fixed temperature) is the
published setting; see `config.json`.
"""
