"""Adapters of PEFT for video models of transformers: a directory with `adapter_config.json`, which names its base."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from videollm.adapter_kinds import ADAPTERS
from videollm.config import LoraConfig, ModelConfig
from videollm.errors import CheckpointError
from videollm.models.hub.model import HubLLM
from videollm.models.language import add_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(directory: Path) -> bool:
    """Returns whether the directory is an adapter and not a model."""
    return (directory / CONFIG).is_file() and not (directory / "config.json").is_file()


def adapted(config: ModelConfig, adapter: Path) -> ModelConfig:
    """Returns the configuration of a model with the adapter, whose hash the adapter's weights change.

    Raises CheckpointError for a directory that is not an adapter.
    """
    weights = adapter / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{adapter}: no {WEIGHTS}; give the directory that PEFT wrote")
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    return replace(config, llm=replace(config.llm, revision=f"{config.llm.revision}+{sha}"))


def with_adapter(llm: HubLLM, name: str, adapter: Path, *, trainable: bool = False) -> HubLLM:
    """Returns the model with an adapter beside its weights.

    Args:
        llm: The model.
        name: Its name, for errors.
        adapter: The directory of the adapter.
        trainable: Whether to train the adapter further.

    Raises:
        CheckpointError: If the adapter is for another model.
    """
    from peft import PeftModel

    try:
        made: Any = PeftModel.from_pretrained(
            llm.language_model, str(adapter), is_trainable=trainable, torch_device="cpu"
        )
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{adapter}: it does not fit {name} ({str(error).splitlines()[0]})") from error
    return HubLLM(made)


def with_new_adapter(llm: HubLLM, config: LoraConfig) -> HubLLM:
    """Returns the model with an untrained adapter on the linear layers of its language model.

    The vision tower and the projector get none. Raises ConfigError, see `add_adapter`.
    """
    model, kind = llm.language_model, ADAPTERS[config.kind]
    decoder = {id(module) for module in model.get_decoder().modules()}
    linear = (name for name, part in model.named_modules() if id(part) in decoder and hasattr(part, "in_features"))
    targets = [name for name in linear if kind.adapts(name)]
    return HubLLM(add_adapter(model, replace(config, targets=tuple(targets))))
