"""`videollm import-official`: a published checkpoint file as a directory of this project."""

import hashlib
from pathlib import Path
from typing import Any

from videollm.errors import CheckpointError
from videollm.models.published.files import read
from videollm.retrieval.model import save
from videollm.retrieval.published import load


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
