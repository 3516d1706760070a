"""The arguments of transformers and the configuration of DeepSpeed, both derived from a recipe.

Each fact is stated once, in the recipe. DeepSpeed's sizes, precision and learning rate are "auto", which transformers
replaces by its own arguments.
"""

import sys
from typing import Any

import torch
from transformers import TrainingArguments

from train.configs.base import Recipe
from train.configs.recognition import RecognitionRecipe
from train.configs.stage1 import AlignmentRecipe
from train.configs.stage2 import HubRecipe, TuningRecipe
from train.configs.stages import StageRecipe, VideoLLMParallelism
from train.core.device import rank_device, world_size
from videollm.device import resolve_dtype
from videollm.errors import ConfigError


def training_arguments(recipe: Recipe, epochs: float = 1) -> TrainingArguments:
    """Returns the arguments of the Trainer.

    `epochs` counts passes through the sampler, and some samplers yield all epochs in one. Raises ConfigError if the
    batch cannot be divided among the ranks.
    """
    optimizer, checkpoints, dataset = recipe.optimizer, recipe.checkpoints, recipe.dataset
    stage: dict[str, Any] = (
        _stage_arguments(recipe) if isinstance(recipe, StageRecipe) else {"dataloader_drop_last": True}
    )
    device = rank_device()
    return TrainingArguments(
        output_dir=recipe.output,
        use_cpu=device.type == "cpu",
        per_device_train_batch_size=_batch_per_pass(recipe),
        per_device_eval_batch_size=_batch_per_pass(recipe),
        num_train_epochs=epochs,
        learning_rate=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_grad_norm,
        bf16=recipe.parallelism.bf16 and _multiplies_bf16(device),
        logging_steps=checkpoints.log_every,
        logging_first_step=True,
        save_steps=checkpoints.save_every,
        save_total_limit=2,
        report_to=checkpoints.report_to,
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # the pinning thread does not look into the dataclasses of a batch
        dataloader_num_workers=dataset.workers,
        disable_tqdm=not sys.stderr.isatty(),
        seed=recipe.seed,
        deepspeed=deepspeed_config(recipe),
        # Each loss of stage 1 uses only some of the heads, and recognition nothing that compares with texts.
        ddp_find_unused_parameters=isinstance(recipe, AlignmentRecipe | RecognitionRecipe),
        **stage,
    )


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether bfloat16 saves time. A CPU without instructions for it emulates it: a step of a text transformer took
    eight times as long as in float32."""
    return device.type != "cpu" or resolve_dtype("auto", device) == torch.bfloat16


def _stage_arguments(recipe: StageRecipe) -> dict[str, Any]:
    """Returns the arguments of stage 1 and stage 2 only: transformers' optimizer and schedule, and evaluation on
    held-out rows."""
    parallelism, dataset = recipe.parallelism, recipe.dataset
    instruction = recipe if isinstance(recipe, TuningRecipe) else None
    answers = instruction is not None and instruction.dataset.evaluate_rows > 0
    evaluates = bool(dataset.eval_data)
    return {
        "gradient_accumulation_steps": parallelism.gradient_accumulation_steps,
        "lr_scheduler_type": "cosine",
        "warmup_steps": recipe.optimizer.warmup_ratio,  # transformers reads a value below 1 as a ratio
        "torch_compile": parallelism.compile,
        "activation_checkpointing": parallelism.gradient_checkpointing,
        "neftune_noise_alpha": (instruction and instruction.tuning.neftune) or None,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": recipe.checkpoints.save_every,
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": "accuracy" if answers else "loss",
        "greater_is_better": answers,
        "prediction_loss_only": True,
        "label_names": ["prompts" if isinstance(recipe, HubRecipe) else "labels"],  # what the loss is computed from
    }


def _batch_per_pass(recipe: Recipe) -> int:
    """Returns the number of rows of one forward pass of one rank."""
    passes = recipe.parallelism.gradient_accumulation_steps if isinstance(recipe, StageRecipe) else 1
    batch, ranks = recipe.dataset.batch_size, world_size()
    per_pass, rest = divmod(batch, ranks * passes)
    if rest:
        raise ConfigError(
            f"batch_size {batch} cannot be divided among {ranks} ranks with gradient_accumulation_steps {passes}; make "
            f"it a multiple of {ranks * passes}"
        )
    return per_pass


def deepspeed_config(recipe: Recipe) -> dict[str, Any] | None:
    """Returns DeepSpeed's configuration, or None if the recipe runs without DeepSpeed."""
    parallelism = recipe.parallelism
    if not parallelism.zero_stage:
        return None
    zero: dict[str, Any] = {"stage": parallelism.zero_stage}
    if parallelism.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if isinstance(parallelism, VideoLLMParallelism) and parallelism.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if parallelism.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own CPU optimizer needs a compiler at run time
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        **(_ADAMW if isinstance(recipe, StageRecipe) else {"zero_allow_untested_optimizer": True}),
    }


_ADAMW: dict[str, Any] = {
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto", "torch_adam": True},
    }
}
