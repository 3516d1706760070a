"""Stage 2 of any video model of transformers: an adapter of its language model, its projector, or all of it learns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from train.configs.stage2 import HubRecipe
from train.core.device import rank_device, world_size
from train.tasks.instruction import InstructionTask
from videollm.encoders.debug import DebugEncoder
from videollm.encoders.pixels import PixelEncoder
from videollm.errors import ConfigError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.model import HUB_ID, Model, adapted_model, base_name, find, read_config
from videollm.models.hub import load
from videollm.models.hub.adapter import is_adapter, with_adapter, with_new_adapter
from videollm.models.hub.model import HubLLM
from videollm.models.hub.processor import HubProcessor
from videollm.models.hub.prompt import HubPrompt
from videollm.models.processor import Prompt

# The modules between vision tower and language model, by the names that they have in transformers.
PROJECTORS = {"multi_modal_projector", "connector", "projector", "merger", "deepstack_merger_list", "embed_vision"}


class HubTask(InstructionTask):
    """Training of a video model of transformers on conversations. Only the answers contribute to the loss."""

    recipe: HubRecipe

    def start(self) -> Model:
        return starting_hub_model(self.recipe)

    def collator(self) -> "HubCollator":
        return HubCollator(self.model.processor)

    def answer(self, prompt: Prompt) -> str:
        llm, processor = self.model.llm, self.model.processor
        was, generation = llm.training, GenerationConfig(max_new_tokens=self.model.config.prompt.max_new_tokens)
        llm.eval()
        tokens = LocalEngine(llm, processor.stop_ids).stream(prompt, PromptCache(), generation)
        text = processor.decode([token.id for token in tokens])
        llm.train(was)
        return text

    def save(self, output: Path, state: dict[str, torch.Tensor], card: str) -> None:
        """Writes a directory of PEFT with the adapter, or one of transformers with the whole model."""
        tuning, language_model = self.recipe.tuning, self.model.llm.language_model
        inside = {name.removeprefix("language_model."): tensor for name, tensor in state.items()}
        if tuning.tune == "adapter":
            language_model.peft_config["default"].base_model_name_or_path = base_of(tuning.init)
            language_model.save_pretrained(str(output), state_dict=inside, save_embedding_layers=False)
            (output / "README.md").unlink()  # PEFT's empty template; card.md takes its place
        else:
            # ZeRO-3 may have divided the weights that were not trained, so they are read again, whole.
            unset_hf_deepspeed_config()
            whole = load.load_model(model_directory(tuning.init), self.model.config.llm, torch.device("cpu"))
            whole.language_model.load_state_dict(inside, strict=False)
            whole.language_model.save_pretrained(output)
            assert isinstance(self.model.processor, HubProcessor)
            self.model.processor.processor.save_pretrained(output)
        (output / "card.md").write_text(card)


class HubCollator:
    """Prompts to the arguments of `HubLLM.forward`.

    On several ranks a prompt without pictures gets a blank one, since DeepSpeed needs all ranks to run the same
    modules in each step.
    """

    def __init__(self, processor: Any):
        self.processor: HubProcessor = processor
        self.several_ranks = world_size() > 1

    def __call__(self, prompts: Sequence[HubPrompt]) -> dict[str, Any]:
        for prompt in prompts:
            if self.several_ranks and not prompt.media:
                self.processor.add_blank_picture(prompt)
        return {"prompts": list(prompts)}


def starting_hub_model(recipe: HubRecipe) -> Model:
    """Returns the model to tune, with what is trained requiring gradients.

    Raises CheckpointError if `init` is not a video model of transformers or an adapter for one, and ConfigError if it
    is an adapter and the recipe trains none.
    """
    tuning, device = recipe.tuning, rank_device()
    init, directory = find(tuning.init), model_directory(tuning.init)
    assert init is not None
    config, _ = read_config(directory, tuning.init)
    config = replace(config, llm=replace(config.llm, dtype=recipe.dtype, load_in_4bit=tuning.load_in_4bit))
    llm = load.load_model(directory, config.llm, device)
    if is_adapter(init) and tuning.tune != "adapter":
        raise ConfigError(
            f"{init} is an adapter, which tune {tuning.tune} would lose; merge it first with "
            f"videollm export {init} --out DIR, then start from init DIR"
        )
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        llm = (
            with_adapter(llm, tuning.init, init, trainable=True)
            if is_adapter(init)
            else with_new_adapter(llm, recipe.lora)
        )
    elif tuning.tune == "full":
        llm.requires_grad_(True)
    else:
        for module in projectors(llm, tuning.init):
            module.requires_grad_(True)
    # Frames are read as pixels. Nothing looks for evidence in training, so the smallest encoder does.
    encoder = PixelEncoder(DebugEncoder(), load.family_of(directory).short_side)
    wrapped: Any = llm
    return Model(config, encoder, load.load_processor(directory, config), wrapped)


def projectors(llm: HubLLM, name: str) -> list[nn.Module]:
    """Returns the modules between the vision tower and the language model. Raises ConfigError if none is known."""
    model = llm.language_model
    inside = {id(module) for module in model.get_decoder().modules()}
    found = [m for n, m in model.named_modules() if n.rpartition(".")[2] in PROJECTORS and id(m) not in inside]
    if not found:
        raise ConfigError(f"{name}: no module is called {', '.join(sorted(PROJECTORS))}; use tune adapter or full")
    return found


def model_directory(init: str) -> Path:
    """Returns the directory of the model itself, also if `init` is an adapter for it.

    Raises CheckpointError if it is not a video model of transformers.
    """
    directory = find(init)
    if directory is not None and is_adapter(directory):
        return adapted_model(directory)
    if directory is None or read_config(directory)[0].llm.source != load.ITS_OWN:
        raise ConfigError(f"init is {init}, which is not a video model of transformers; such models use other recipes")
    return directory


def base_of(init: str) -> str:
    """Returns how an adapter names its base model: a hub id as it is, and a directory by its whole path."""
    directory = find(init)
    if directory is not None and is_adapter(directory):
        return base_name(directory)
    return init if HUB_ID.fullmatch(init) and not Path(init).is_dir() else str(Path(init).expanduser().resolve())
