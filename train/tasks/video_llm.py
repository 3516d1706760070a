"""The VideoLLM that a run starts from, and the checkpoint directory that it writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from train.configs.stage1 import AlignmentRecipe
from train.configs.stage2 import InstructionRecipe, TuningConfig
from train.configs.stages import PresetRecipe
from train.core.device import rank_device
from videollm import checkpoint
from videollm.checkpoint_files import ADAPTER
from videollm.device import resolve_dtype
from videollm.errors import ConfigError
from videollm.export import FOLDER
from videollm.model import Model, config_of
from videollm.models.language import add_adapter
from videollm.models.processor import Processor
from videollm.models.virtual_tokens import build_virtual_tokens, load_virtual_tokens


def starting_model(recipe: AlignmentRecipe | InstructionRecipe) -> Model:
    """Returns the model of a stage, built from the preset or with the weights of the checkpoint that stage 2 starts
    from.

    Raises ConfigError if this checkpoint has an adapter and the recipe does not train one, or has outputs and the
    recipe trains all of the language model.
    """
    if not isinstance(recipe, InstructionRecipe):
        return fresh_model(recipe)
    model = preset_model(recipe) if recipe.network.model else loaded_model(recipe)
    if recipe.tuning.trains_language_model:
        _refuse_outputs(model, recipe.tuning.init)
        model.llm.language_model.requires_grad_(True)
    if recipe.tuning.tune == "language_model":
        freeze_projector(model, audio=_hears(recipe.tuning.init))
    return model


def preset_model(recipe: InstructionRecipe) -> Model:
    """Returns the preset that stage 2 trains, with what the checkpoint that it starts from has learned.

    Raises ConfigError if that has an adapter that the recipe does not train.
    """
    tuning, init = recipe.tuning, Path(recipe.tuning.init)
    if tuning.init and (init / FOLDER).is_dir() and not recipe.network.llm:
        recipe = recipe.changed(llm=str(init / FOLDER))  # the checkpoint has a language model of its own
    model = fresh_model(recipe)
    if tuning.init:
        hears = model.llm.audio is None or _hears(tuning.init)
        checkpoint.load_projector(model.llm, init / "projector.safetensors", has_audio=hears)
        adapter = init / ADAPTER
        if adapter.is_file():
            _keep_adapter(tuning)
            own, asked = config_of(tuning.init).llm.lora, model.config.llm.lora
            if own is not None and asked is not None and own.kind != asked.kind:
                raise ConfigError(f"{init} has an adapter {own.kind} of its own; leave adapter {asked.kind} out")
            if model.llm.virtual_tokens is not None:
                load_virtual_tokens(model.llm.virtual_tokens, init)
            else:
                set_peft_model_state_dict(model.llm.language_model, load_file(adapter))
    return model


def _hears(init: str) -> bool:
    """Whether the checkpoint that stage 2 starts from has an audio branch."""
    return bool(init) and config_of(init).audio.kind != "none"


def loaded_model(recipe: InstructionRecipe) -> Model:
    """Returns the checkpoint that stage 2 starts from, with its own tokenizer, prompt and tower.

    Raises ConfigError if it has an adapter that the recipe does not train.
    """
    tuning, config = recipe.tuning, recipe.model_config
    model = checkpoint.load_directory(
        Path(tuning.init), rank_device(), trainable=True, load_in_4bit=tuning.load_in_4bit
    )
    language_model = model.llm.language_model
    if not tuning.load_in_4bit:
        language_model.to(resolve_dtype(recipe.language_model_dtype, model.device))
    if (own := model.config.llm.lora) is not None:
        _keep_adapter(tuning)
        if config.llm.lora != own:
            raise ConfigError(f"{tuning.init} has an adapter of its own; leave adapter and lora_r out")
    elif config.llm.layer_adapter is not None:
        model.llm.language_model = add_adapter(language_model, config.llm.layer_adapter)
    elif config.llm.virtual_tokens:
        words: Any = language_model.get_input_embeddings()
        model.llm.virtual_tokens = build_virtual_tokens(config.llm, words.weight)
        return replace(model, config=config, processor=Processor(model.processor.tokenizer, config))
    return replace(model, config=config)


def _keep_adapter(tuning: TuningConfig) -> None:
    """Raises ConfigError if training would lose the adapter of the checkpoint that it starts from."""
    if tuning.tune != "adapter":
        raise ConfigError(
            f"{tuning.init} has an adapter, which tune {tuning.tune} would lose; take tune adapter, or merge a lora, "
            f"dora or ia3 first with videollm export {tuning.init} --out DIR, then start from init DIR"
        )


def trained_checkpoint(directory: Path) -> Model:
    """Returns a checkpoint whose language model is trained further: its adapter if it has one, else all of it. What
    reads the videos stays as it is."""
    model = checkpoint.load_directory(directory, rank_device(), trainable=True)
    _refuse_outputs(model, str(directory))
    if model.config.llm.lora is None:
        model.llm.language_model.requires_grad_(True)
    freeze_projector(model)
    return model


def freeze_projector(model: Model, audio: bool = True) -> None:
    """Leaves the temporal module as it is, and the audio branch too unless `audio` is False."""
    model.llm.temporal.requires_grad_(False)
    if audio and model.llm.audio is not None:
        model.llm.audio.requires_grad_(False)


def _refuse_outputs(model: Model, name: str) -> None:
    """Raises ConfigError for a model that shows, whose signal tokens are rows beside those of the language model."""
    if model.config.outputs.modalities:
        raise ConfigError(
            f"{name} shows {', '.join(model.config.outputs.modalities)}, which only stage 2 with tune adapter or "
            "projector trains further"
        )


def fresh_model(recipe: PresetRecipe) -> Model:
    """Returns the model of the recipe's preset with an untrained projector."""
    config = recipe.model_config
    held = replace(config, llm=replace(config.llm, dtype=recipe.language_model_dtype))
    model = checkpoint.build(held, rank_device(), seed=recipe.seed)
    # The dtype is that of the run. The checkpoint keeps the dtype of the preset.
    return replace(model, config=config)


def save_checkpoint(model: Model, directory: Path, state: dict[str, torch.Tensor], card: str, full: bool) -> None:
    """Writes the checkpoint directory.

    Args:
        model: The model.
        directory: The directory.
        state: The trained tensors, by the names of `model.llm`.
        card: The text of card.md.
        full: Whether to write the language model too, all of whose weights were trained.
    """
    if full:
        model = _save_language_model(model, directory, state)
    checkpoint.save(model, directory, state=state, card=card)


def _save_language_model(model: Model, directory: Path, state: dict[str, torch.Tensor]) -> Model:
    """Writes the language model beside the projector. Returns the model with a configuration that names this folder."""
    inside = {k.removeprefix("language_model."): v for k, v in state.items() if k.startswith("language_model.")}
    model.llm.language_model.save_pretrained(directory / FOLDER, state_dict=inside)
    model.processor.tokenizer.save_pretrained(directory / FOLDER)
    llm = replace(model.config.llm, source=checkpoint.OWN + FOLDER, revision=None)
    return replace(model, config=replace(model.config, llm=llm))
