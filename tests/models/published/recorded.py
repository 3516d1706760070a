"""Recorded runs of the official code: weights, inputs, outputs and gradient norms, with their config."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.parity import RECORDED, load_parity


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


def recorded(case: str) -> Recorded:
    """The recorded case "SYSTEM/FILE"."""
    arrays = load_parity(case)
    folder, file = case.split("/")
    about = json.loads((RECORDED / folder / "README.json").read_text())[f"{file}.safetensors"]
    groups = {name: arrays.get(name, {}) for name in ("state", "input", "inter", "output", "gradnorm")}
    return Recorded(**groups, config=about["config"], text=about.get("text", {}))


def tokenizer_file() -> Path:
    """LLaMA's tokenizer, tiny, that all recorded ids come from."""
    return RECORDED / "VideoLLaMA" / "tokenizer.model"
