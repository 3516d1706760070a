"""Converts a published checkpoint file to a directory of this project, for `videollm import-official`."""

import hashlib
from pathlib import Path
from typing import Any

from videollm.errors import CheckpointError
from videollm.models.published.files import read
from videollm.retrieval.model import save
from videollm.retrieval.published import load


def convert(path: Path, system: str, folder: Path) -> dict[str, Any]:
    """Converts a published checkpoint file to a directory that `videollm.retrieval.model.load` reads.

    Args:
        path: The checkpoint file.
        system: The name of the system, see `published.load`.
        folder: The directory to write.

    Returns:
        The directory, the system, the kind of head, the number of parameters and the SHA-256 of the checkpoint file.

    Raises:
        CheckpointError: If the file does not exist, or its weights do not fit the system.
        ConfigError: If the system is unknown.
    """
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
those of the published checkpoint. Settings that its weights do not contain (numbers of attention heads, a fixed
temperature) are the published ones; see `config.json`.
"""
