"""What both stages share: their command line, transformers' arguments, the trainer, the card and the loss curve."""

import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import TrainingArguments

from train.configs.stages import RECIPES, Recipe
from train.core import command
from train.core.resume import ResumableTrainer
from train.core.samplers import Draws, Order
from train.data.rows import Features, Rows
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.errors import ConfigError
from videollm.export import FOLDER
from videollm.features.shards import FeatureShards
from videollm.models.aligner import Aligner


def parse(stage: int, argv: Sequence[str] | None = None) -> Recipe:
    """The recipe of this stage that the command line asks for."""
    return command.parse(
        {name: r for name, r in RECIPES.items() if r.stage == stage},
        f"Train stage {stage}.",
        argv,
        fixed=("name", "stage"),
        meanings=Recipe.help(),
        shown=lambda r: {**asdict(r), "deepspeed": deepspeed_config(r)},
    )


def build(recipe: Recipe) -> Model:
    """A fresh model whose frozen language model is held in the recipe's `frozen_dtype`."""
    config = recipe.config
    held = "float32" if recipe.tune == "full" and recipe.stage == 2 else recipe.frozen_dtype
    model = checkpoint.build(replace(config, llm=replace(config.llm, dtype=held)), device(), seed=recipe.seed)
    return replace(model, config=config)


def device() -> torch.device:
    """This rank's."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """transformers' arguments; the DeepSpeed config follows from the recipe."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    per_rank, rest = divmod(recipe.batch_size, ranks * recipe.accumulate)
    if rest or not per_rank:
        raise ConfigError(
            f"batch_size {recipe.batch_size} cannot be shared by {ranks} ranks with accumulate {recipe.accumulate}; "
            f"make it a multiple of {ranks * recipe.accumulate}"
        )
    evaluates = bool(recipe.evaluation)
    return TrainingArguments(
        output_dir=recipe.output,
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=per_rank,
        per_device_eval_batch_size=per_rank,
        gradient_accumulation_steps=recipe.accumulate,
        num_train_epochs=1,  # the sampler gives all epochs as one
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.bf16,
        torch_compile=recipe.compile,
        activation_checkpointing=recipe.gradient_checkpointing,
        neftune_noise_alpha=recipe.neftune or None,
        logging_steps=recipe.log_every,
        logging_first_step=True,
        save_steps=recipe.save_every,
        save_total_limit=2,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=recipe.save_every,
        load_best_model_at_end=evaluates,
        metric_for_best_model="accuracy" if recipe.evaluate_rows else "loss",
        greater_is_better=recipe.evaluate_rows > 0,
        prediction_loss_only=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        dataloader_num_workers=recipe.workers,
        ddp_find_unused_parameters=recipe.stage == 1,  # a loss uses some heads and not others
        disable_tqdm=not sys.stderr.isatty(),
        report_to=recipe.report_to,
        seed=recipe.seed,
        deepspeed=deepspeed_config(recipe),
    )


def deepspeed_config(recipe: Recipe) -> dict[str, Any] | None:
    """ZeRO settings, None without ZeRO; sizes and precision are filled in by transformers from the arguments, stated
    once."""
    if not recipe.zero:
        return None
    zero: dict[str, Any] = {"stage": recipe.zero}
    if recipe.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if recipe.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if recipe.zero == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU optimizer needs a compiler at run time
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


def read_rows(recipe: Recipe, model: Model, only: Callable[..., bool] | None) -> tuple[Rows, Rows | None, Features]:
    """Rows to train on, rows held out, and the features of both, computed where they are not there yet."""
    shards = FeatureShards(recipe.features or Path(recipe.output) / "features")
    features = Features(shards=shards, encoder=model.encoder, config=model.config)
    rows = Rows(recipe.data.split(","), only)
    held_out = Rows(recipe.evaluation.split(","), only) if recipe.evaluation else None
    for some in (rows, held_out):
        if some is not None and (left_out := features.make(some, recipe.skip_bad)):
            print(f"{left_out} rows have no usable video and are left out", file=sys.stderr)
    return rows, held_out, features


class StageTrainer(ResumableTrainer):
    """One pass over the recipe's draws. Checkpoints hold what is trained, not the frozen towers."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        rows: Dataset[Any],
        order: Order,
        collate: Callable[..., Any],
        held_out: Dataset[Any] | None = None,
        generate: Callable[[], dict[str, float]] | None = None,
    ):
        """generate: measures of the model's own answers, which each rank computes alike."""
        self.recipe, self.order, self.generate = recipe, order, generate
        self.started = time.perf_counter()
        if not order.draws:
            raise ConfigError(
                f"{sum(order.sizes)} rows seen {recipe.epochs} times make no batch of {recipe.batch_size}; "
                "lower batch_size"
            )
        super().__init__(
            model, training_arguments(recipe), train_dataset=rows, eval_dataset=held_out, data_collator=collate
        )

    def fit(self, model: Model, aligner: Aligner | None = None) -> None:
        """Train, from the checkpoint to resume if there is one, and write the checkpoint directory."""
        self.train_from(self.recipe.resume)
        self.finish(model, aligner)

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        return Draws(self.order)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        metrics = super().evaluate(*arguments, **options)
        if self.generate is not None:
            made = {f"eval_{name}": value for name, value in self.generate().items()}
            self.log(made)
            metrics |= made
        return metrics

    @property
    def trained(self) -> set[str]:
        return {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def trained_state(self) -> dict[str, torch.Tensor]:
        """What is trained, gathered from all ranks to the first."""
        if self.recipe.zero == 3:
            state = self.model_wrapped._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True) or {}
        else:
            state = self.model.state_dict()
        return {k: v.contiguous() for k, v in state.items() if k in self.trained}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        state = self.trained_state()
        if self.args.should_save:
            directory = Path(output_dir or self.args.output_dir)
            directory.mkdir(parents=True, exist_ok=True)
            save_file(state, directory / "trained.safetensors")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            self.model_wrapped.save_checkpoint(output_dir, exclude_frozen_parameters=True)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / "trained.safetensors")
        if state.keys() != self.trained:
            raise ConfigError(
                f"{resume_from_checkpoint} holds other parameters than this recipe trains: "
                f"{', '.join(sorted(state.keys() ^ self.trained)[:5])}, ..."
            )
        (model or self.model).load_state_dict(state, strict=False)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        sharded = self.is_deepspeed_enabled
        prepared = super()._prepare_for_training(
            max_steps, train_dataloader, None if sharded else resume_from_checkpoint
        )
        if sharded and resume_from_checkpoint:
            self._load_shards(resume_from_checkpoint)
        return prepared

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None  # Trainer asks only then
        (self._load_shards if self.is_deepspeed_enabled else self._load_from_checkpoint)(
            self.state.best_model_checkpoint
        )

    def _load_shards(self, directory: str) -> None:
        """Weights, optimizer and schedule; frozen weights are not in it, so not strictly."""
        path, _ = self.model_wrapped.load_checkpoint(directory, load_module_strict=False)
        if path is None:
            raise ConfigError(f"{directory} holds no DeepSpeed checkpoint; resume with the zero it was trained with")

    def finish(self, model: Model, aligner: Aligner | None = None) -> None:
        """Write the checkpoint directory, with its card and loss curve."""
        state = self.trained_state()
        if not self.is_world_process_zero():
            return
        output = Path(self.args.output_dir)
        own = self.model is model.llm
        inside = state if own else {k.removeprefix("llm."): v for k, v in state.items() if k.startswith("llm.")}
        if self.recipe.tune == "full" and own:
            model = save_language_model(model, output, inside)
        checkpoint.save(model, output, state=inside, card=self.card(model))
        if aligner is not None:
            named = {f"aligner.{name}": name for name in aligner.own_state()}
            aligner.save(output, {named[k]: v for k, v in state.items() if k in named})
        curve(self.state.log_history, output / "loss.png")

    def card(self, model: Model) -> str:
        recipe, history = self.recipe, self.state.log_history
        seconds = time.perf_counter() - self.started
        changed = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.default != getattr(recipe, f.name)}
        lines = [f"# {Path(recipe.output).name}", "", f"Stage {recipe.stage}, recipe `{recipe.name}`.", ""]
        lines += ["| field | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in changed.items()), "", "**Data**", ""]
        files = [f.partition("=")[0] for text in (recipe.data, recipe.evaluation) for f in text.split(",") if f]
        lines += [f"- {name}: sha256 {sha256(Path(name))}" for name in files] or [
            "- simulated (`data_gen/simulation/story.py`)"
        ]
        losses = [(h["step"], h["loss"]) for h in history if "loss" in h]
        lines += ["", "**Metrics**", ""]
        if losses:
            lines.append(f"- training loss: {losses[0][1]:.4f} at step {losses[0][0]}, {losses[-1][1]:.4f} at the end")
        best = [h for h in history if any(k.startswith("eval_") for k in h)]
        for h in best:
            measured = {k: v for k, v in h.items() if k in ("eval_loss", "eval_accuracy")}
            lines += (
                [f"- step {h['step']}: {', '.join(f'{k} {v:.4f}' for k, v in measured.items())}"] if measured else []
            )
        if self.state.best_model_checkpoint:
            lines.append(f"- kept: {Path(self.state.best_model_checkpoint).name}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
        lines += ["", "**Run**", "", f"- {self.state.global_step} steps of {recipe.batch_size}, {seconds:.0f} s"]
        lines += [f"- {hardware()}, {self.args.world_size} rank(s)", f"- peak memory {peak:.2f} GB a rank"]
        if torch.cuda.is_available():
            lines.append(f"- peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
        lines += [f"- torch {torch.__version__}", f"- model configuration {model.config.sha}", ""]
        return "\n".join(lines)


def save_language_model(model: Model, directory: Path, state: dict[str, torch.Tensor]) -> Model:
    """Write the trained language model beside the projector; the model whose configuration says so."""
    inside = {k.removeprefix("language_model."): v for k, v in state.items() if k.startswith("language_model.")}
    model.llm.language_model.save_pretrained(directory / FOLDER, state_dict=inside)
    model.processor.tokenizer.save_pretrained(directory / FOLDER)
    llm = replace(model.config.llm, source=checkpoint.OWN + FOLDER, revision=None)
    return replace(model, config=replace(model.config, llm=llm))


def curve(history: list[dict[str, Any]], path: Path) -> None:
    """Losses of training and of held-out rows over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "training"), ("eval_loss", "held out")):
        points = [(h["step"], h[key]) for h in history if key in h]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if key == "eval_loss" else "", label=label)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(path, dpi=120)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"
