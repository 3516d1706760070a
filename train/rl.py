"""Reinforcement by answers that can be checked (GRPO).

    python train/rl.py RECIPE --init CHECKPOINT --data ROWS --eval-data ROWS [--field value]

Rows are multiple-choice questions, whose letter is right or wrong, and questions for a span of time, which are worth
its overlap with the true one.
"""

from collections.abc import Sequence
from typing import Any

from train.configs.rl import RL, GRPORecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.grpo import GRPOTask


def train(recipe: GRPORecipe) -> dict[str, Any]:
    """Write the checkpoint directory, reward.json and reward.png. Returns what reward.json holds."""
    return run_task(GRPOTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(RL, "GRPO on questions whose answers can be checked.", argv))


if __name__ == "__main__":
    main()
