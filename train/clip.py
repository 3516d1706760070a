"""Pre-train a CLIP from scratch on frames with captions.

    [deepspeed|torchrun|python] train/clip.py RECIPE [--field value]

A row of the data is a part of a video with its caption; each time it is seen, one of the part's frames is drawn. The
result is an open_clip model: `local-dir:DIRECTORY` names it to `train/retrieval.py --backbone`, to open_clip and to
every preset. With `--tower`, which open_clip does not have, it is a retrieval model, and `--backbone` takes it too.
"""

from collections.abc import Sequence

from train.configs.clip import CLIPS, ClipRecipe
from train.core.command import parse, run
from train.core.trainer import run_task
from train.tasks.clip import ClipTask


def train(recipe: ClipRecipe) -> dict[str, float]:
    """Writes the model. Returns its recall on eval_data, if there is any."""
    return run_task(ClipTask(recipe))


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(CLIPS, "Pre-train a CLIP from scratch on frames with captions.", argv))


if __name__ == "__main__":
    main()
