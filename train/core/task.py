"""The base class of training tasks, which add model, data and hooks to the trainer that all of them share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Sampler

from train.configs.base import Recipe

if TYPE_CHECKING:
    from train.core.trainer import TaskTrainer


class TrainingTask:
    """Model, data and hooks of one training run.

    Attributes:
        recipe: The recipe of the run.
        module: What is trained. Called with a batch, it returns `{"loss": scalar, ...}`.
        rows: The training data, indexed by what `sampler` yields.
        sampler: The order of the rows.
        collate: Turns rows into the arguments of the module.
        held_out: The rows of the evaluation loss, or None.
        epochs: How often the trainer goes through the sampler.
        has_own_optimizer: Whether `create_optimizer` and `lr_multiplier` are used. Otherwise transformers' AdamW and
            its cosine schedule are used, or those of DeepSpeed.
    """

    recipe: Recipe
    module: nn.Module
    rows: Sequence[Any] | Any
    sampler: Sampler[int]
    collate: Callable[[Any], dict[str, Any]]
    held_out: Any = None
    epochs: float = 1
    has_own_optimizer: bool = False

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimizer of a task that has its own."""
        raise NotImplementedError

    def lr_multiplier(self, progress: float) -> float:
        """Returns the factor of the learning rate of the task's own optimizer when `progress` of all steps is done."""
        return 1.0

    def before_step(self, trainer: "TaskTrainer") -> None:
        """Is called before each forward pass."""

    def backward(self, trainer: "TaskTrainer", inputs: Any) -> torch.Tensor | None:
        """Computes the loss and its gradients in the task's own way. Returning None leaves both to the trainer."""
        return None

    def after_step(self, trainer: "TaskTrainer") -> None:
        """Is called after each optimizer step, before a checkpoint of this step is written."""

    def measures(self) -> dict[str, float]:
        """Returns measures of the steps since the last line of the log, which join it."""
        return {}

    def after_epoch(self, trainer: "TaskTrainer") -> None:
        """Is called after each pass through the sampler."""

    def evaluate(self) -> dict[str, float]:
        """Returns measures beside the loss on `held_out`. Every rank computes the same ones."""
        return {}

    def finish(self, trainer: "TaskTrainer") -> Any:
        """Writes the result of the run. Every rank calls it, because gathering sharded weights takes all ranks."""
        raise NotImplementedError
