"""The rows and the card of stage 1 and stage 2."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from train.configs.stages import StageRecipe
from train.core.report import card
from train.core.trainer import TaskTrainer
from train.data.features import VideoFeatures
from train.data.rows import InstructionRows
from videollm.model import Model


def read_rows(
    recipe: StageRecipe, model: Model, only: Callable[..., bool] | None
) -> tuple[InstructionRows, InstructionRows | None, VideoFeatures]:
    """Returns rows to train on, held-out rows, and the features of both, without changes of frames. Features that are
    kept and missing are computed."""
    dataset = recipe.dataset
    where = dataset.features or str(Path(recipe.output) / "features")
    features = VideoFeatures.at(where, model.encoder, model.config, dataset.feature_dtype)
    rows = InstructionRows(dataset.data.split(","), only)
    held_out = InstructionRows(dataset.eval_data.split(","), only) if dataset.eval_data else None
    for some in (rows, held_out):
        if some is not None and (left_out := features.prepare(some, dataset.skip_bad)):
            print(f"{left_out} rows have no usable video and are left out", file=sys.stderr)
    return rows, held_out, features


def stage_card(trainer: TaskTrainer, recipe: StageRecipe, model: Model, script: str) -> str:
    """Returns the text of the checkpoint's card."""
    seconds = time.perf_counter() - trainer.started
    run = [
        f"{trainer.state.global_step} steps of {recipe.dataset.batch_size}, {seconds:.0f} s",
        f"{trainer.args.world_size} rank(s)",
        f"model configuration {model.config.sha}",
    ]
    if best := trainer.state.best_model_checkpoint:
        run.append(f"kept: {Path(best).name}")
    return card(recipe, script, {}, trainer.state.log_history, run)
