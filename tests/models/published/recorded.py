"""Recorded runs of the official code: weights, inputs, outputs and gradient norms, with their config."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.parity import BESIDE, load_parity


@dataclass(frozen=True)
class Recorded:
    """Arrays by their official names; config is what the weights do not tell, text the exact prompts."""

    state: dict[str, torch.Tensor]
    input: dict[str, torch.Tensor]
    inter: dict[str, torch.Tensor]
    output: dict[str, torch.Tensor]
    gradnorm: dict[str, torch.Tensor]
    config: dict[str, Any]
    text: dict[str, Any]


def recorded(system: str) -> Recorded:
    folder, file = system.split("/")
    arrays = load_parity(folder, file)
    about = json.loads((_root() / folder / "README.json").read_text())[f"{file}.safetensors"]
    groups = {name: arrays.get(name, {}) for name in ("state", "input", "inter", "output", "gradnorm")}
    return Recorded(**groups, config=about["config"], text=about.get("text", {}))


def tokenizer_file(system: str) -> Path:
    """LLaMA's tokenizer, tiny, that the system's recorded ids come from."""
    return _root() / system / "tokenizer.model"


def _root() -> Path:
    return next(f for f in (Path(os.environ.get("VIDEOLLM_PARITY_DIR", BESIDE)), BESIDE) if f.is_dir())
