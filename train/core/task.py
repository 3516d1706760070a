"""What one kind of training adds to the trainer that all of them share."""

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

    recipe: of the run. module: what is trained; called with a batch it returns `{"loss": scalar, ...}`. rows: training
    data, indexed by what `sampler` yields. collate: rows to the module's arguments. held_out: rows of the evaluation
    loss. epochs: how often the trainer goes through the sampler. has_own_optimizer: False for transformers' AdamW and
    its cosine schedule, which DeepSpeed replaces by its own.
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
        """The optimizer of a task that has its own."""
        raise NotImplementedError

    def lr_multiplier(self, progress: float) -> float:
        """The factor of the learning rate of the task's own optimizer when `progress` of all steps is done."""
        return 1.0

    def before_step(self, trainer: "TaskTrainer") -> None:
        """Called before each forward pass."""

    def backward(self, trainer: "TaskTrainer", inputs: Any) -> torch.Tensor | None:
        """Compute the loss and its gradients in the task's own way; None leaves both to the trainer."""
        return None

    def after_step(self, trainer: "TaskTrainer") -> None:
        """Called after each optimizer step, before a checkpoint of that step is written."""

    def after_epoch(self, trainer: "TaskTrainer") -> None:
        """Called after each pass through the sampler."""

    def evaluate(self) -> dict[str, float]:
        """Measures beside the loss on `held_out`, computed alike by every rank."""
        return {}

    def finish(self, trainer: "TaskTrainer") -> Any:
        """Write the run's result. Every rank calls it, because gathering sharded weights takes all ranks."""
        raise NotImplementedError
