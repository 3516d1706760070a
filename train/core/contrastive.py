"""transformers' Trainer for contrastive training: arguments and optimiser from a recipe, batches by groups."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback, TrainingArguments

from train.configs.contrastive import Fit
from train.core.gradcache import average_over_ranks, cached_backward
from train.core.optimizers import BertAdam, factor
from train.core.resume import ResumableTrainer
from train.tasks.contrastive import Contrast
from videollm.errors import ConfigError

TRAINED_FILE = "trained.safetensors"


class Rows(Dataset[int]):
    """The numbers 0 to count - 1; the collator looks up what they stand for."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def training_arguments(recipe: Fit) -> TrainingArguments:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    return TrainingArguments(
        output_dir=recipe.output,
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=recipe.batch_size // ranks,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.bf16,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        logging_steps=10,
        save_steps=recipe.save_every,
        save_total_limit=2,
        remove_unused_columns=False,
        label_names=["batch"],
        disable_tqdm=not sys.stderr.isatty(),
        report_to="none",
        seed=recipe.seed,
        deepspeed=deepspeed_config(recipe) if recipe.zero else None,
    )


def deepspeed_config(recipe: Fit) -> dict[str, Any]:
    """The optimiser is the recipe's own; the rest transformers fills in."""
    return {
        "zero_optimization": {"stage": recipe.zero},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
    }


class ContrastTrainer(ResumableTrainer):
    """One step is one batch of all ranks, in pieces where the recipe has a `chunk`. order: which rows come in which
    order; groups: parameters with their learning rates. score: metrics, logged after each `evaluate_every` epochs."""

    score: Callable[[], dict[str, float]] | None = None

    def __init__(
        self,
        contrast: Contrast,
        arguments: TrainingArguments,
        recipe: Fit,
        *,
        rows: int,
        collate: Callable[[list[int]], dict[str, Any]],
        order: Sampler[int],
        groups: list[dict[str, Any]],
        chunk: int = 0,
    ):
        self.contrast, self.recipe, self.order, self.groups, self.chunk = contrast, recipe, order, groups, chunk
        super().__init__(contrast, arguments, train_dataset=Rows(rows), data_collator=collate)
        self.add_callback(_Scoring(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with _dimensions(self.contrast) if self.recipe.zero else nullcontext():
            return super().train(*args, **kwargs)

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        return self.order

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            r = self.recipe
            kind = {"adamw": partial(torch.optim.AdamW, fused=True), "bertadam": BertAdam}[r.optimizer]
            betas = (r.beta1, r.beta2)
            self.optimizer = kind(
                self.groups, lr=r.learning_rate, betas=betas, eps=r.epsilon, weight_decay=r.weight_decay
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.lr_scheduler is None:
            r = self.recipe
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.create_optimizer(),
                lambda step: factor(r.schedule, min(1, step / num_training_steps), r.warmup),
            )
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        self.contrast.limit_scale()
        if not self.chunk:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        batch: Any = self._prepare_inputs(inputs)["batch"]
        with self.accelerator.autocast():
            loss = cached_backward(self.contrast, batch, self.chunk)
        average_over_ranks(self.contrast)
        return loss

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Checkpoints hold what is trained."""
        directory = Path(output_dir or self.args.output_dir or ".")
        directory.mkdir(parents=True, exist_ok=True)
        save_file({n: p.detach().contiguous() for n, p in self._trained()}, directory / TRAINED_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / TRAINED_FILE)
        own = dict(self._trained())
        if state.keys() != own.keys():
            different = ", ".join(sorted(state.keys() ^ own.keys()))
            raise ConfigError(f"{resume_from_checkpoint} and this recipe do not train the same parameters: {different}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.contrast.named_parameters() if p.requires_grad)


@contextmanager
def _dimensions(module: nn.Module) -> Iterator[None]:
    """Scalars as vectors of one: DeepSpeed cannot broadcast parameters without dimensions."""
    scalars = [p for p in module.parameters() if not p.ndim]
    for parameter in scalars:
        parameter.data = parameter.data[None]
    yield
    for parameter in scalars:
        parameter.data = parameter.data[0]


class _Scoring(TrainerCallback):
    """Evaluates between epochs; the last is evaluated when training is over."""

    def __init__(self, trainer: ContrastTrainer):
        self.trainer = trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        every, epoch = self.trainer.recipe.evaluate_every, round(state.epoch)
        if self.trainer.score and every and epoch % every == 0 and state.global_step < state.max_steps:
            self.trainer.log(self.trainer.score())
            self.trainer.contrast.train()
