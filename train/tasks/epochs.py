"""Runs over epochs with the optimizers of published retrieval systems, measured after each epoch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset

from train.configs.contrastive import EpochRecipe
from train.core.optimizers import BertAdam
from train.core.schedules import lr_multiplier
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.pairs import GroupedSampler
from videollm.errors import ConfigError


class RowNumbers(Dataset[int]):
    """The numbers 0 to count - 1, which the collator turns into rows."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class EpochTask(TrainingTask):
    """A run over epochs.

    Args:
        recipe: The recipe.
        names: For each row the name of its group, whose rows follow one another, or "".

    Attributes:
        groups: The parameters with their learning rates, for the optimizer.

    Raises:
        ConfigError: If the rows do not fill a batch.
    """

    recipe: EpochRecipe
    sampler: GroupedSampler
    groups: list[dict[str, Any]]

    has_own_optimizer = True

    def __init__(self, recipe: EpochRecipe, names: Sequence[str]):
        dataset = recipe.dataset
        if len(names) < dataset.batch_size:
            raise ConfigError(
                f"{dataset.data} has {len(names)} rows, and batch_size is {dataset.batch_size}; incomplete batches are "
                f"left out, so set batch_size to at most {len(names)}"
            )
        self.recipe, self.epochs = recipe, dataset.epochs
        self.rows, self.sampler = RowNumbers(len(names)), GroupedSampler(names, recipe.seed)

    def score(self) -> dict[str, float]:
        """Returns measures on `eval_data`, or an empty dict if the recipe has none."""
        raise NotImplementedError

    def write(self, found: dict[str, float]) -> None:
        """Writes the result with its measures. It is called on the first rank."""
        raise NotImplementedError

    def create_optimizer(self) -> torch.optim.Optimizer:
        o = self.recipe.optimizer
        kind = {"adamw": partial(torch.optim.AdamW, fused=True), "bertadam": BertAdam}[o.optimizer]
        betas = (o.beta1, o.beta2)
        return kind(self.groups, lr=o.learning_rate, betas=betas, eps=o.epsilon, weight_decay=o.weight_decay)

    def lr_multiplier(self, progress: float) -> float:
        return lr_multiplier(self.recipe.optimizer.schedule, progress, self.recipe.optimizer.warmup_ratio)

    def after_epoch(self, trainer: TaskTrainer) -> None:
        every, state = self.recipe.dataset.evaluate_every, trainer.state
        last = state.global_step >= state.max_steps  # the last epoch is evaluated by `finish`
        due = every > 0 and round(state.epoch or 0) % every == 0
        if due and not last and (found := self.score()):
            trainer.log(found)
            self.module.train()

    def finish(self, trainer: TaskTrainer) -> dict[str, float]:
        """Returns the measures of the finished model."""
        found = self.score()
        if trainer.is_world_process_zero():
            self.write(found)
        return found
