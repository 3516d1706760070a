"""Stage 1: align the temporal module's tokens with words.

    [deepspeed|torchrun|python] train/stage1.py RECIPE [--field value]

The language model is frozen. The recipe weighs the losses of `train/tasks/losses.py`; captioned videos bear all of
them, simulated videos two.
"""

from collections.abc import Sequence

from train.configs.stage1 import STAGE1, AlignmentRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.alignment import AlignmentTask


def train(recipe: AlignmentRecipe) -> None:
    """Write the checkpoint directory that stage 2 starts from."""
    run_task(AlignmentTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(STAGE1, "Stage 1: align the temporal module's tokens with words.", argv))


if __name__ == "__main__":
    main()
