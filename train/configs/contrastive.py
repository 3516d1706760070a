"""What the recipes of `train/clip.py`, `train/retrieval.py` and `train/recognize.py` share: runs over epochs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from train.configs.base import CheckpointConfig, DataConfig, OptimizerConfig, Recipe, option

Schedule = Literal["cosine", "bert_cosine", "constant", "rising"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptimizerConfig(OptimizerConfig):
    """The optimizers and schedules that published retrieval systems train with; defaults are CLIP4Clip's."""

    optimizer: Literal["adamw", "bertadam"] = option(
        "adamw", "adamw, or bertadam: Adam without bias correction, which CLIP4Clip trains with."
    )
    learning_rate: float = option(1e-4, "Peak learning rate of what is new: the head, or all of a CLIP from scratch.")
    beta1: float = option(0.9, "Decay rate of the running mean of gradients.")
    beta2: float = option(0.98, "Decay rate of the running mean of squared gradients.")
    epsilon: float = option(1e-6, "Added to the root of the mean of squared gradients, for stability.")
    weight_decay: float = option(0.2, "Decoupled weight decay.")
    warmup_ratio: float = option(0.1, "Share of all steps during which the learning rate rises to its peak.")
    schedule: Schedule = option("cosine", "Learning rate after the warm-up; see train/core/schedules.py.")


@dataclass(frozen=True, kw_only=True)
class FrameDataConfig(DataConfig):
    """How the frames of videos are read, and how often a run sees them."""

    epochs: float = option(5, "How often each row is seen.")
    cache: str = option("runs/cache", "Directory that keeps decoded frames and the features of frozen towers.")
    fps: float = option(1.0, "Frames a second; 0 spreads max_frames evenly over the video.")
    max_frames: int = option(12, "Most frames of one video.")
    evaluate_every: int = option(1, "Epochs between two evaluations; 0 evaluates only at the end.")


@dataclass(frozen=True, kw_only=True)
class CaptionDataConfig(FrameDataConfig):
    """Captioned videos, and how their frames and captions are read."""

    data: str = option("", "File of captioned videos; train/data/pairs.py describes its formats.")
    eval_data: str = option("", "Another file of captioned videos, on which recall is measured.")
    batch_size: int = option(128, "Pairs of one step, over all ranks; each is compared with all others.")
    max_words: int = option(32, "Most tokens of one caption, its start and end token included.")


@dataclass(frozen=True, kw_only=True)
class EpochRecipe(Recipe):
    """A run over epochs: the optimizer is the recipe's own, also under DeepSpeed."""

    optimizer: ContrastiveOptimizerConfig = field(default_factory=ContrastiveOptimizerConfig)
    checkpoints: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(save_every=1000, log_every=10))
    dataset: FrameDataConfig = field(default_factory=FrameDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        dataset, stage = self.dataset, self.parallelism.zero_stage
        yield stage == 3, "zero_stage is 3; training with an optimizer of its own supports 0 (no DeepSpeed), 1 and 2"
        yield dataset.max_frames < 1, f"max_frames is {dataset.max_frames}; it must be at least 1"
        yield dataset.fps < 0, f"fps is {dataset.fps}; give frames a second, or 0 for max_frames of each video"


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(EpochRecipe):
    """A contrastive run."""

    dataset: CaptionDataConfig = field(default_factory=CaptionDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        words = self.dataset.max_words
        yield words < 3, f"max_words is {words}; it must be at least 3: start, one word, end"
