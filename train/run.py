"""What both stages share: the command line, transformers' arguments, the simulated data and the model card."""

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from train.questions import Taxonomy
from train.recipes import RECIPES, Recipe, recipe
from train.simulate import PosteriorEncoder, Simulator, Story
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import ModelConfig
from videollm.errors import ConfigError, VideoLLMError


def parse(stage: int, argv: Sequence[str] | None = None) -> Recipe:
    """`RECIPE --field value ...`; every field of the recipe is an option. Exits with 2 on a bad value."""
    names = [r.name for r in RECIPES.values() if r.stage == stage]
    parser = argparse.ArgumentParser(description=f"Train stage {stage}.")
    parser.add_argument("recipe", choices=names)
    parser.add_argument("--print-config", action="store_true", help="show the recipe and stop")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    for f in fields(Recipe):
        if f.name not in ("name", "stage"):
            kind: Any = {"choices": get_args(f.type)} if get_origin(f.type) is Literal else {"type": f.type}
            parser.add_argument(f"--{f.name.replace('_', '-')}", dest=f.name, **kind)
    values = vars(parser.parse_args(argv))
    name, show = values.pop("recipe"), values.pop("print_config")
    values.pop("local_rank")
    try:
        chosen = recipe(name, {k: v for k, v in values.items() if v is not None})
    except VideoLLMError as error:
        parser.error(str(error))
    if show:
        print(json.dumps(asdict(chosen), indent=2))
        sys.exit(0)
    return chosen


def build(recipe: Recipe, config: ModelConfig) -> Model:
    """A fresh model whose frozen language model is held in the recipe's `frozen_dtype`."""
    model = checkpoint.build(replace(config, llm=replace(config.llm, dtype=recipe.frozen_dtype)), seed=recipe.seed)
    return replace(model, config=config)


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """transformers' arguments; the DeepSpeed config follows from the recipe."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    per_rank = recipe.batch_size // (ranks * recipe.accumulate)
    return TrainingArguments(
        output_dir=recipe.output,
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=per_rank,
        gradient_accumulation_steps=recipe.accumulate,
        num_train_epochs=1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        logging_steps=5,
        save_steps=recipe.save_every,
        save_total_limit=2,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        report_to="none",
        seed=recipe.seed,
        deepspeed=deepspeed_config(recipe) if recipe.zero else None,
    )


def deepspeed_config(recipe: Recipe) -> dict[str, Any]:
    """ZeRO settings; sizes and precision are filled in by transformers from the arguments, stated once."""
    return {
        "zero_optimization": {"stage": recipe.zero, "stage3_gather_16bit_weights_on_model_save": True},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto", "torch_adam": True},
        },
    }


class TrainedPartsTrainer(Trainer):
    """Checkpoints hold the parts that are trained, not the frozen towers."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        state = self.model.state_dict() if state_dict is None else state_dict
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        save_file({k: v.contiguous() for k, v in state.items() if k in trained}, directory / "trained.safetensors")

    def finish(self, model: Model) -> None:
        """Write the checkpoint directory, gathered from all ranks."""
        state = self.accelerator.get_state_dict(self.model_wrapped)
        if self.is_world_process_zero():
            own = self.model is model.llm
            state = state if own else {k.removeprefix("llm."): v for k, v in state.items() if k.startswith("llm.")}
            checkpoint.save(model, Path(self.args.output_dir), state=state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / "trained.safetensors")
        unknown = (model or self.model).load_state_dict(state, strict=False).unexpected_keys
        if unknown:
            raise ConfigError(f"{resume_from_checkpoint} holds {', '.join(unknown)}, which this recipe does not train")


class Stories(Dataset[Story]):
    """`count` simulated stories, each made from its own seed: the same index is always the same story."""

    def __init__(self, simulator: Simulator, count: int, seed: int):
        self.simulator, self.count, self.seed = simulator, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Story:
        return self.simulator.story(self.seed * 1_000_003 + index)


def split_classes(model: Model, held_out: int) -> tuple[list[int], list[int]]:
    """Class indices for training and for testing unseen names; the split is the same for every recipe."""
    classes = list(range(len(getattr(model.encoder, "classifier_weight", ()))))
    random.Random(20).shuffle(classes)
    return sorted(classes[held_out:]), sorted(classes[:held_out])


def simulated(model: Model, classes: list[int]) -> tuple[Simulator, Taxonomy]:
    """Raises ConfigError for an encoder whose features cannot be simulated."""
    if not isinstance(model.encoder, PosteriorEncoder):
        raise ConfigError(f"encoder {model.encoder.name!r} has no classifier to simulate; train it on videos instead")
    return Simulator(model.encoder, model.config, classes), Taxonomy(model.encoder.vocabulary)
