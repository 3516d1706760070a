"""Train a retrieval head on a CLIP.

    [deepspeed|torchrun|python] train/retrieval.py RECIPE [--field value]

The loss is symmetric InfoNCE over the batch of all ranks, TeachCLIP's where the recipe names teachers, or REINFORCE on
recall itself. The result is a directory that `videollm.retrieval.model.load` reads, with its metrics in `card.md`.
"""

from collections.abc import Sequence

from train.configs.retrieval import RETRIEVAL, RetrievalRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.distillation import DistillationTask
from train.tasks.retrieval import RetrievalTask


def train(recipe: RetrievalRecipe) -> dict[str, float]:
    """Write the trained head. Returns its metrics on eval_data, if there is any."""
    return run_task((DistillationTask if recipe.objective.teachers else RetrievalTask)(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(RETRIEVAL, "Train a retrieval head on a CLIP.", argv))


if __name__ == "__main__":
    main()
