"""Train a retrieval head on a CLIP to name what happens in videos (action recognition).

    [deepspeed|torchrun|python] train/recognize.py RECIPE [--field value]

The result is a directory for `videollm classify VIDEO --model DIR`, with its accuracy in `card.md`. It is a retrieval
model too, from which `train/retrieval.py` can start (`--init`).
"""

from collections.abc import Sequence

from train.configs.recognition import RECOGNITION, RecognitionRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.recognition import RecognitionTask


def train(recipe: RecognitionRecipe) -> dict[str, float]:
    """Write the trained recogniser. Returns its accuracy on eval_data, if there is any."""
    return run_task(RecognitionTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(RECOGNITION, "Train a retrieval head to name what happens in videos.", argv))


if __name__ == "__main__":
    main()
