"""Decoding alignment, NExT-GPT's second stage: signal tokens and output projections learn to show what captions say."""

from dataclasses import replace
from pathlib import Path

import torch

from train.configs.decoding import DecodingRecipe
from train.core.device import rank_device
from train.core.report import loss_curve
from train.core.samplers import Draws, Order
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.conditions import CaptionsToShow, ConditionCollator, text_encoders
from train.data.rows import InstructionRows, is_caption
from train.tasks.stages import stage_card
from videollm import checkpoint
from videollm.decoders.conditions import TextConditions
from videollm.errors import ConfigError
from videollm.model import Model, base, projector_state
from videollm.models.processor import Processor
from videollm.output_config import Modality, OutputConfig


class DecodingTask(TrainingTask):
    """Training on captions alone: no video is read."""

    recipe: DecodingRecipe

    def __init__(self, recipe: DecodingRecipe):
        dataset = recipe.dataset
        self.recipe = recipe
        rows = InstructionRows(dataset.data.split(","), is_caption)
        held_out = InstructionRows(dataset.eval_data.split(","), is_caption) if dataset.eval_data else None
        self.model, encoders = starting_point(recipe)
        self.module = self.model.llm.requires_grad_(False)
        assert self.module.outputs is not None
        self.module.outputs.requires_grad_(True)
        self.rows = CaptionsToShow(rows, self.model.processor)
        modalities = len(self.rows.modalities)
        order = Order(
            sizes=tuple(size * modalities for size in rows.sizes),
            epochs=dataset.epochs,
            batch=dataset.batch_size,
            seed=recipe.seed,
            weights=rows.weights,
        )
        self.sampler = Draws(order)
        self.collate = ConditionCollator(self.model.processor, encoders)
        self.held_out = CaptionsToShow(held_out, self.model.processor) if held_out else None

    def finish(self, trainer: TaskTrainer) -> None:
        """Writes the checkpoint directory, its card and the loss curve."""
        state = trainer.trained_state()
        if trainer.is_world_process_zero():
            output = Path(self.recipe.output)
            card = stage_card(trainer, self.recipe, self.model, "train/decoding.py")
            checkpoint.save(self.model, output, state=state, card=card)
            loss_curve(output / "loss.png", trainer.state.log_history)


def starting_point(recipe: DecodingRecipe) -> tuple[Model, dict[Modality, TextConditions]]:
    """Returns the checkpoint that the recipe starts from, with outputs, and the text encoders of their pipelines.

    Raises ConfigError if the checkpoint has an adapter, which would not be trained, or other outputs than the recipe.
    """
    shown, init = recipe.shown, Path(recipe.shown.init)
    model = checkpoint.load_directory(init, rank_device(), trainable=True)
    if model.config.llm.lora is not None:
        raise ConfigError(
            f"{init} has an adapter, and decoding alignment comes before instruction tuning; start from the checkpoint "
            f"of stage 1, or merge a lora, dora or ia3 first with videollm export {init} --out DIR"
        )
    # The language model of a checkpoint that has its own is not copied.
    model = replace(model, config=replace(model.config, llm=base(model.config.llm, init)))
    if model.config.outputs.modalities:
        if given := [decoder for decoder in shown.decoders if decoder]:
            raise ConfigError(
                f"{init} has its own decoders; leave {', '.join(given)} out, or start from the checkpoint of stage 1"
            )
        return model, text_encoders(model.config.outputs)
    outputs = OutputConfig(
        kind=shown.projection,
        decoders=shown.decoders,
        tokens=shown.tokens,
        width=shown.output_width,
        layers=shown.output_layers,
        heads=shown.output_heads,
    )
    encoders = text_encoders(outputs)
    shapes: dict[Modality, tuple[int, int]] = {modality: encode.shape for modality, encode in encoders.items()}
    return with_outputs(model, outputs.of_shapes(shapes), recipe.seed), encoders


def with_outputs(model: Model, outputs: OutputConfig, seed: int) -> Model:
    """Returns the model with untrained signal tokens and output projections."""
    config = replace(model.config, outputs=outputs)
    processor = Processor(model.processor.tokenizer, config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        llm = checkpoint.assemble(config, model.encoder, model.llm.language_model, processor.first_signal)
    llm.load_state_dict(projector_state(model.llm), strict=False)  # all but the outputs
    return Model(config, model.encoder, processor, llm)
