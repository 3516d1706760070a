"""Recipes of `train/rl.py`: reinforcement by answers that can be checked (GRPO)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from train.configs.base import CheckpointConfig, DataConfig, OptimizerConfig, Recipe, option


@dataclass(frozen=True, kw_only=True)
class RewardedDataConfig(DataConfig):
    """Questions whose answers can be checked."""

    data: str = option("runs/world.jsonl", "Instruction data; rows of the tasks choice and locate are used.")
    eval_data: str = option("runs/world_val.jsonl", "Held-out rows of the same tasks.")
    features: str = option(
        "runs/features", "Directory that keeps the frozen encoder's features; none: encode videos while training."
    )
    batch_size: int = option(8, "Questions of one step, over all ranks.")
    steps: int = option(200, "Number of steps.")
    evaluate_rows: int = option(200, "Held-out questions that are answered, greedily and by drawing, at an evaluation.")
    evaluate_every: int = option(50, "Steps between two evaluations.")


@dataclass(frozen=True, kw_only=True)
class DrawingConfig:
    """How answers are drawn."""

    group: int = option(8, "Answers drawn to each question; they are compared with each other.")
    tokens: int = option(32, "Longest answer in tokens.")
    temperature: float = option(1.0, "Temperature at which answers are drawn.")


@dataclass(frozen=True, kw_only=True)
class GRPORecipe(Recipe):
    """GRPO from a trained checkpoint. The learning rate is constant."""

    init: str = option("runs/world_stage2", "Checkpoint directory to start from.")
    drawing: DrawingConfig = field(default_factory=DrawingConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=2e-5, warmup_ratio=0.0))
    checkpoints: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(log_every=10))
    dataset: RewardedDataConfig = field(default_factory=RewardedDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        drawing, stage = self.drawing, self.parallelism.zero_stage
        yield (
            drawing.group < 2,
            f"group is {drawing.group}; an answer is compared with others of its group, so it must be at least 2",
        )
        yield (
            drawing.temperature <= 0,
            f"temperature is {drawing.temperature}; answers are drawn at random, so it must be above 0",
        )
        yield stage > 0, f"zero_stage is {stage}; GRPO generates with the model itself and runs without DeepSpeed"
        yield min(self.dataset.steps, self.dataset.evaluate_every) < 1, "steps and evaluate_every must be at least 1"


WORLD_RL = GRPORecipe(name="world_rl")
DEBUG_RL = WORLD_RL.changed(name="debug_rl", steps=2, batch_size=2, group=4, evaluate_rows=2)
RL: dict[str, GRPORecipe] = {r.name: r for r in (WORLD_RL, DEBUG_RL)}
