"""Decoding alignment: a model learns to show pictures, videos and sounds by diffusion models.

    [deepspeed|torchrun|python] train/decoding.py RECIPE [--field value]

Adds signal tokens and output projections to a checkpoint, and trains them on captions: the language model writes the
signal tokens after a caption, and the projections turn them into the text condition that the diffusion model's own text
encoder has for the caption. Instruction tuning follows, see train/README.md.
"""

from collections.abc import Sequence

from train.configs.decoding import DECODING, DecodingRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.decoding import DecodingTask


def train(recipe: DecodingRecipe) -> None:
    """Write the checkpoint directory of a model that shows."""
    run_task(DecodingTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(DECODING, "Decoding alignment: learn to show pictures, videos and sounds.", argv))


if __name__ == "__main__":
    main()
