"""The parts that every training recipe is made of.

A recipe is a frozen dataclass with nested parts. Each field is declared once, with its default and its help text;
`train.core.command` makes a command-line option of every field, whatever part it lies in. Field names are unique within
a recipe, so an option needs no prefix: `--learning-rate` is `recipe.optimizer.learning_rate`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Self, TypeVar

from videollm.errors import ConfigError

R = TypeVar("R")

LogTarget = Literal["none", "tensorboard", "wandb"]


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and the text that `--help` prints for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its learning-rate schedule."""

    learning_rate: float = option(1e-3, "Peak learning rate.")
    weight_decay: float = option(0.0, "Decoupled weight decay; biases and norms are not decayed.")
    warmup_ratio: float = option(0.05, "Share of all steps during which the learning rate rises to its peak.")
    max_grad_norm: float = option(1.0, "Gradients whose norm exceeds this value are scaled down to it.")


@dataclass(frozen=True, kw_only=True)
class ParallelismConfig:
    """Precision, and how a step is spread over GPUs and ranks."""

    bf16: bool = option(
        False,
        "Compute in bfloat16 where that is safe (autocast); parameters stay in float32. A CPU without instructions for "
        "bfloat16 computes in float32, which is faster there.",
    )
    zero_stage: int = option(
        0,
        "DeepSpeed ZeRO stage: 1 shards the optimizer, 2 also gradients, 3 also parameters; 0: no DeepSpeed.",
    )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What a run writes, and from where it resumes."""

    output: str = option("", "Directory that the run writes; empty: runs/RECIPE.")
    resume: str = option(
        "",
        "Checkpoint directory to resume from, or 'last' for the newest complete one of the output, if there is one.",
    )
    save_every: int = option(100, "Steps between two checkpoints.")
    log_every: int = option(5, "Steps between two lines of the log.")
    report_to: LogTarget = option("none", "Log to tensorboard or wandb as well.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run trains on and is evaluated on."""

    data: str = option("", "File to train on.")
    eval_data: str = option("", "File that is held out for evaluation; empty: no evaluation.")
    batch_size: int = option(8, "Rows of one step, over all ranks and accumulated batches.")
    workers: int = option(0, "Processes that load data; 0 loads it in the training process.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one training run depends on. Each kind of training has a subclass."""

    name: str
    seed: int = option(0, "Seed of everything random.")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    dataset: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        for wrong, message in self.problems():
            if wrong:
                raise ConfigError(message)

    def problems(self) -> Iterator[tuple[bool, str]]:
        """Each rule that the recipe could break: whether it does, and the message for that case."""
        batch, stage = self.dataset.batch_size, self.parallelism.zero_stage
        yield stage not in (0, 1, 2, 3), f"zero_stage is {stage}; choose 0 (no DeepSpeed), 1, 2 or 3"
        yield batch < 1, f"batch_size is {batch}; it must be at least 1"

    @property
    def output(self) -> str:
        """The directory that the run writes."""
        return self.checkpoints.output or f"runs/{self.name}"

    def changed(self, **values: Any) -> Self:
        """A copy with fields replaced by name, whatever part they lie in. Raises ConfigError for unknown names."""
        known = {leaf.name for _, leaf, _ in leaves(self)} | {"name"}
        if unknown := sorted(values.keys() - known):
            raise ConfigError(
                f"a {type(self).__name__} has no field {', '.join(unknown)}; its fields are {', '.join(sorted(known))}"
            )
        return _replaced(self, values)


def leaves(config: Any, part: str = "") -> Iterator[tuple[str, "Field[Any]", Any]]:
    """Each field of a config that holds a value: the part it lies in ("" for the recipe itself), the field, the value.

    The field `name` identifies a recipe and is left out.
    """
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from leaves(value, f.name)
        elif f.name != "name":
            yield part, f, value


def _replaced(config: R, values: Mapping[str, Any]) -> R:
    """Rebuild the config bottom-up, so that each part and then the recipe itself is validated once."""
    changes: dict[str, Any] = {}
    for f in fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if is_dataclass(value):
            changes[f.name] = _replaced(value, values)
        elif f.name in values:
            changes[f.name] = values[f.name]
    return replace(config, **changes)  # type: ignore[type-var]
