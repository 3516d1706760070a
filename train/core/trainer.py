"""The trainer of all tasks: transformers' Trainer with a task's model, data and optimizer, and with small, safe
checkpoints.

Checkpoints have what is trained, not the frozen towers, and are marked as complete after all ranks have written.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback

from train.configs.stages import StageOptimizerConfig
from train.core.arguments import training_arguments
from train.core.optimizers import muon
from train.core.resume import COMPLETE, complete_checkpoint
from train.core.task import TrainingTask
from videollm.errors import ConfigError

TRAINED_FILE = "trained.safetensors"


def run_task(task: TrainingTask) -> Any:
    """Trains, from the checkpoint that the recipe resumes if there is one. Returns the result of the task's
    `finish`."""
    trainer = TaskTrainer(task)
    trainer.train_from(task.recipe.checkpoints.resume)
    return task.finish(trainer)


class TaskTrainer(Trainer):
    """Runs one task."""

    def __init__(self, task: TrainingTask):
        self.task = task
        self.started = self.began = time.perf_counter()
        self.began_at = 0  # the step that training began with, when it was resumed
        super().__init__(
            task.module,
            training_arguments(task.recipe, task.epochs),
            train_dataset=task.rows,
            eval_dataset=task.held_out,
            data_collator=task.collate,
        )
        self.add_callback(_TaskHooks(self))

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir or ".")

    def train_from(self, resume: str) -> None:
        """Trains. `resume` is read by `complete_checkpoint`."""
        checkpoint = complete_checkpoint(self.output, resume, self._optimizer_name)
        with vector_parameters(self.task.module) if self.is_deepspeed_enabled else nullcontext():
            self.train(resume_from_checkpoint=checkpoint)

    # What the task decides

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        return self.task.sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        chosen = self.task.recipe.optimizer
        if self.optimizer is None and self.task.has_own_optimizer:
            self.optimizer = self.task.create_optimizer()
        elif self.optimizer is None and isinstance(chosen, StageOptimizerConfig) and chosen.optimizer == "muon":
            self.optimizer = muon(self.task.module, chosen.learning_rate, chosen.weight_decay)
        return self.optimizer or super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is None and self.task.has_own_optimizer:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.create_optimizer(),
                lambda step: self.task.lr_multiplier(min(1, step / num_training_steps)),
            )
        return self.lr_scheduler or super().create_scheduler(num_training_steps, optimizer)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        self.task.before_step(self)
        loss = self.task.backward(self, inputs)
        return super().training_step(model, inputs, num_items_in_batch) if loss is None else loss

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        metrics = super().evaluate(*arguments, **options)
        if measured := {f"eval_{name}": value for name, value in self.task.evaluate().items()}:
            self.log(measured)
        return metrics | measured

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Adds the task's measures and the minutes that are left to a line about training steps."""
        if "loss" in logs:
            step_s = (time.perf_counter() - self.began) / max(self.state.global_step - self.began_at, 1)
            left_s = step_s * (self.state.max_steps - self.state.global_step)
            logs = {**logs, **self.task.measures(), "minutes_left": round(left_s / 60, 1)}
        super().log(logs, *arguments, **options)

    @property
    def _optimizer_name(self) -> str:
        return getattr(self.task.recipe.optimizer, "optimizer", "adamw")  # some recipes have no choice

    @property
    def _engine(self) -> Any:
        """DeepSpeed's engine, which transformers keeps as the wrapped model."""
        return self.model_wrapped

    # Checkpoints: trained parameters, then the optimizer, then the mark that all of it is there

    @property
    def trained_names(self) -> set[str]:
        return {name for name, parameter in self.task.module.named_parameters() if parameter.requires_grad}

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Returns the trained tensors on the first rank. All ranks must call it, because ZeRO-3 divides each
        parameter among them."""
        if self.task.recipe.parallelism.zero_stage == 3:
            state = self._engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True) or {}
        else:
            state = self.task.module.state_dict()
        trained = self.trained_names
        return {name: tensor.contiguous() for name, tensor in state.items() if name in trained}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        state = self.trained_state()
        if self.args.should_save:
            directory = Path(output_dir or self.output)
            directory.mkdir(parents=True, exist_ok=True)
            save_file(state, directory / TRAINED_FILE)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            self._engine.save_checkpoint(output_dir, exclude_frozen_parameters=True)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if dist.is_initialized():
            dist.barrier()  # each rank has written its part
        if self.args.should_save:
            (self.output / f"checkpoint-{self.state.global_step}" / COMPLETE).write_text(self._optimizer_name)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / TRAINED_FILE)
        if different := sorted(state.keys() ^ self.trained_names):
            raise ConfigError(
                f"{resume_from_checkpoint} and this recipe do not train the same parameters; they differ in "
                f"{', '.join(different[:5])}{', ...' if len(different) > 5 else ''}"
            )
        own = dict((model or self.task.module).named_parameters())
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        # transformers loads a DeepSpeed checkpoint strictly, but ours has no frozen weights. It is loaded below.
        sharded = self.is_deepspeed_enabled
        prepared = super()._prepare_for_training(
            max_steps, train_dataloader, None if sharded else resume_from_checkpoint
        )
        if sharded and resume_from_checkpoint:
            self._load_shards(resume_from_checkpoint)
        return prepared

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        assert best is not None, "transformers asks for the best model only where one was evaluated"
        (self._load_shards if self.is_deepspeed_enabled else self._load_from_checkpoint)(best)

    def _load_shards(self, directory: str) -> None:
        """Loads weights, optimizer and schedule that DeepSpeed wrote."""
        path, _ = self._engine.load_checkpoint(directory, load_module_strict=False)
        if path is None:
            raise ConfigError(
                f"{directory} has no DeepSpeed checkpoint; resume with the zero_stage that it was trained with"
            )


class _TaskHooks(TrainerCallback):
    """Passes transformers' events on to the task."""

    def __init__(self, trainer: TaskTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.began, self.trainer.began_at = time.perf_counter(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.task.after_step(self.trainer)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.task.after_epoch(self.trainer)


@contextmanager
def vector_parameters(module: nn.Module) -> Iterator[None]:
    """Makes scalar parameters vectors of one element, because DeepSpeed cannot broadcast or shard parameters without
    dimensions."""
    scalars = [p for p in module.parameters() if not p.ndim]
    for parameter in scalars:
        parameter.data = parameter.data[None]
    yield
    for parameter in scalars:
        parameter.data = parameter.data[0]
