"""Recipes of `train/dense.py`: the tower and the motion stem of the world, trained with the truth of rendered clips."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from train.configs.base import CheckpointConfig, option
from train.configs.stages import (
    NetworkConfig,
    PresetRecipe,
    StageOptimizerConfig,
    VideoDataConfig,
    VideoLLMParallelism,
)


@dataclass(frozen=True, kw_only=True)
class DenseLossWeights:
    """The weight of each part of the truth; a part of weight 0 is not computed, and what only it needs is frozen."""

    frames: float = option(
        0.0, "Weight of what each patch shows: shape, colour, place, turn, pixels. Trains the tower."
    )
    events: float = option(
        0.0, "Weight of what happens at each place and moment: kind, shape, colour, times. Trains the stem."
    )
    moments: float = option(
        0.0, "Weight of what each moment shows, read from the module's tokens. Trains the module and the stem."
    )
    readout: float = option(
        0.0, "Weight of naming the first and the last event from the module's tokens. Trains the module and the stem."
    )
    mvm: float = option(
        0.0, "Weight of the pixels of patches that are hidden in all frames (VideoMAE). Trains the tower and the stem."
    )
    regions: float = option(
        0.0,
        "Weight of boxes against names and clips against captions (X-VLM). Trains the tower and the stem.",
    )

    @property
    def sees_events(self) -> bool:
        """Whether some loss is about whole clips."""
        return self.events > 0 or self.moments > 0 or self.readout > 0

    @property
    def trains_both(self) -> bool:
        """Whether some loss trains the tower and the stem together."""
        return self.mvm > 0 or self.regions > 0


@dataclass(frozen=True, kw_only=True)
class DenseDataConfig(VideoDataConfig):
    """Rendered clips, drawn while training."""

    frames_of_clip: int = option(0, "Consecutive frames of a clip that are painted; 0: all, which events need.")


@dataclass(frozen=True, kw_only=True)
class DenseRecipe(PresetRecipe):
    """Supervision of a temporal module with a tower, before any word is learnt."""

    init: str = option("", "Checkpoint directory of an earlier run to start from; empty: random weights.")
    losses: DenseLossWeights = field(default_factory=DenseLossWeights)
    dataset: DenseDataConfig = field(default_factory=DenseDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        weights, temporal = self.losses, self.model_config.temporal
        sees_events = weights.sees_events
        yield (
            not (sees_events or weights.trains_both or weights.frames > 0),
            f"no loss has a weight; give one to one of {', '.join(vars(weights))}",
        )
        yield temporal.tower is None, f"model {self.network.model} has no tower to train; choose world"
        yield (
            temporal.stem == "none" and (weights.events > 0 or weights.trains_both),
            "the model has no motion stem, which events, mvm and regions train; set stem to motion",
        )
        yield (
            self.dataset.frames_of_clip > 0 and (sees_events or weights.regions > 0),
            f"frames_of_clip is {self.dataset.frames_of_clip}, but events and captions need whole clips; set it to 0",
        )
        yield bool(self.dataset.data), "data is set, but this training draws its clips; leave it empty"
        yield self.parallelism.zero_stage == 3, "zero_stage 3 does not fit so small a model; use 0, 1 or 2"


WORLD_FRAMES = DenseRecipe(
    name="world_frames",
    network=NetworkConfig(model="world"),
    losses=DenseLossWeights(frames=1.0),
    optimizer=StageOptimizerConfig(learning_rate=2.5e-3, weight_decay=0.02),
    checkpoints=CheckpointConfig(log_every=50, save_every=200),
    dataset=DenseDataConfig(num_videos=100_000, batch_size=16, frames_of_clip=3),
)
WORLD_EVENTS = DenseRecipe(
    name="world_events",
    network=NetworkConfig(model="world"),
    init="runs/world_frames",
    seed=1,
    losses=DenseLossWeights(events=1.0, moments=1.0, readout=1.0),
    optimizer=StageOptimizerConfig(optimizer="muon", learning_rate=3e-3, weight_decay=0.02),
    parallelism=VideoLLMParallelism(bf16=True),
    checkpoints=CheckpointConfig(log_every=50, save_every=200),
    dataset=DenseDataConfig(num_videos=72_000, batch_size=16),
)
DENSE: dict[str, DenseRecipe] = {r.name: r for r in (WORLD_FRAMES, WORLD_EVENTS)}
