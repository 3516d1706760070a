"""Stage 2: instruction tuning.

    [deepspeed|torchrun|python] train/stage2.py RECIPE [--field value]

Trains the temporal module, and the language model's adapter or all of it, on conversations about videos, images or
nothing. `hub_stage2` tunes a video model of transformers. Only the answers bear a loss.
"""

from collections.abc import Sequence

from train.configs.stage2 import STAGE2, HubRecipe, TuningRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.hub import HubTask
from train.tasks.instruction import InstructionTask


def train(recipe: TuningRecipe) -> None:
    """Write the checkpoint directory of a model that answers."""
    run_task(HubTask(recipe) if isinstance(recipe, HubRecipe) else InstructionTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(STAGE2, "Stage 2: instruction tuning.", argv))


if __name__ == "__main__":
    main()
