"""Training recipes: one frozen dataclass, complete instances by name. Variants are made with `dataclasses.replace`."""

from dataclasses import dataclass, fields, replace
from typing import Any

from videollm.config import Dtype, ModelConfig
from videollm.errors import ConfigError
from videollm.presets import preset


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run depends on. `batch_size` is global: ranks and accumulation divide it.

    videos: how many simulated videos a run sees; held_out: classes kept out of training to test unseen names.
    conversation_tokens: a video is asked as many questions, in one conversation, as fit in this (stage 2).
    frozen_dtype: of the frozen language model while training; what is trained stays in float32.
    contrastive, caption: weights of the stage-1 losses. zero: DeepSpeed ZeRO stage, 0 for none.
    """

    name: str
    stage: int
    model: str
    output: str
    init: str = ""  # stage 2: the checkpoint directory to start from, of stage 1 or of a stage 2 before
    resume: str = ""  # a checkpoint-N directory of this recipe's output, to go on from
    videos: int = 16
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    contrastive: float = 1.0
    caption: float = 0.0
    conversation_tokens: int = 400
    held_out: int = 100
    frozen_dtype: Dtype = "auto"
    zero: int = 0
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise ConfigError(f"stage is {self.stage}; it must be 1 or 2")
        if self.zero not in (0, 1, 2, 3):
            raise ConfigError(f"zero is {self.zero}; DeepSpeed's stages are 0 (off), 1, 2, 3")
        if self.videos < self.batch_size:
            raise ConfigError(f"videos {self.videos} is less than batch_size {self.batch_size}")

    @property
    def config(self) -> ModelConfig:
        return preset(self.model)


DEBUG_STAGE1 = Recipe(name="debug_stage1", stage=1, model="debug", output="runs/debug_stage1", caption=1.0, held_out=1)
DEBUG_STAGE2 = Recipe(
    name="debug_stage2",
    stage=2,
    model="debug",
    output="runs/debug_stage2",
    init="runs/debug_stage1",
    conversation_tokens=600,
    held_out=1,
)
LITE_STAGE1 = Recipe(
    name="lite_stage1",
    stage=1,
    model="lite",
    output="runs/lite_stage1",
    videos=1920,
    batch_size=32,
    learning_rate=2e-3,
    save_every=20,
)
LITE_STAGE2 = Recipe(
    name="lite_stage2",
    stage=2,
    model="lite",
    output="runs/lite_stage2",
    init="runs/lite_stage1",
    videos=4800,
    batch_size=8,
    accumulate=2,
    learning_rate=1.5e-3,
    save_every=100,
)
# Most questions of a long conversation can be answered from earlier answers; these few are read from the video.
LITE_STAGE2_SHORT = replace(
    LITE_STAGE2,
    name="lite_stage2_short",
    output="runs/lite_stage2_short",
    init="runs/lite_stage2",
    videos=1280,
    batch_size=16,
    accumulate=4,
    learning_rate=5e-4,
    conversation_tokens=200,
    seed=1,
)

RECIPES: dict[str, Recipe] = {
    r.name: r for r in (DEBUG_STAGE1, DEBUG_STAGE2, LITE_STAGE1, LITE_STAGE2, LITE_STAGE2_SHORT)
}


def recipe(name: str, changes: dict[str, Any]) -> Recipe:
    """The named recipe with fields replaced. Raises ConfigError listing what there is."""
    if name not in RECIPES:
        raise ConfigError(f"no recipe is named {name!r}; there are {', '.join(RECIPES)}")
    known = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(changes) - known):
        raise ConfigError(f"recipes have no field {', '.join(unknown)}; they have {', '.join(sorted(known))}")
    return replace(RECIPES[name], **changes)
