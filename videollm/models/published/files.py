"""Read the checkpoint files that published systems come in."""

from pathlib import Path
from pickle import UnpicklingError

import torch

from videollm.errors import CheckpointError

_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # of torch.save's archives and, before 1.6, its pickles


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a published checkpoint file: safetensors, or a pickle of tensors alone, at its top or under
    "model", "module" or "state_dict"."""
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
    for key in ("model", "module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, at the top or under 'model'")
    return dict(content)
