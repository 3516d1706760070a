"""Train the tower and the motion stem of the world with what is true of each patch and moment.

    [deepspeed|torchrun|python] train/dense.py RECIPE [--field value]

Clips are rendered while training. The result is a checkpoint directory that stage 2 starts from.
"""

from collections.abc import Sequence

from train.configs.dense import DENSE, DenseRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.dense import DenseTask


def train(recipe: DenseRecipe) -> None:
    """Writes the checkpoint directory."""
    run_task(DenseTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(DENSE, "Train the tower and the motion stem with dense truth.", argv))


if __name__ == "__main__":
    main()
