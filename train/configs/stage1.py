"""Recipes of stage 1: align the temporal module's tokens with words, with the language model frozen."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from train.configs.augment import MIX, PICTURE_CHANGES, RowAugmentConfig
from train.configs.base import CheckpointConfig, option
from train.configs.stages import (
    ZERO_VARIANTS,
    NetworkConfig,
    PresetRecipe,
    StageOptimizerConfig,
    VideoDataConfig,
    VideoLLMParallelism,
    zero_variant,
)

SIMULATED_LOSSES = ("contrastive", "caption")  # simulated videos have names and captions, but no text tower reads them


@dataclass(frozen=True, kw_only=True)
class AlignmentLossWeights:
    """The weight of each loss of `train/tasks/losses.py`; a loss of weight 0 is not computed."""

    contrastive: float = option(0.0, "Weight of visual tokens against word embeddings (InfoNCE, no text tower).")
    caption: float = option(0.0, "Weight of captioning through the frozen language model.")
    itc: float = option(0.0, "Weight of video-text contrast (BLIP-2).")
    itm: float = option(0.0, "Weight of video-text matching with hard negatives (BLIP-2).")
    itg: float = option(0.0, "Weight of captioning by the Q-Former's text path (BLIP-2).")
    plm: float = option(0.0, "Weight of writing the rest of a text by the text path, given its first words (SimVLM).")
    mlm: float = option(0.0, "Weight of masked language modelling.")
    mfm: float = option(0.0, "Weight of masked frame modelling.")
    mvm: float = option(0.0, "Weight of the features of patches that are hidden in all frames.")
    audio: float = option(0.0, "Weight of visual tokens against the tokens of the same segment's sound (InfoNCE).")
    order: float = option(0.0, "Weight of telling shuffled frames from ordered ones.")
    verbs: float = option(0.0, "Weight of telling a caption from the same caption with another verb.")


@dataclass(frozen=True, kw_only=True)
class AlignmentDataConfig(RowAugmentConfig, VideoDataConfig):
    """Captioned rows, or simulated videos."""

    batches: Literal["shuffled", "alike"] = option(
        "shuffled", "How rows form batches: shuffled, or alike, so that each is a hard negative of the others."
    )
    overlapped: bool = option(
        False,
        "Draw clips that overlap their captions without sharing their ends (VideoCLIP); needs timed captions.",
    )


@dataclass(frozen=True, kw_only=True)
class AlignmentRecipe(PresetRecipe):
    """Stage 1. The temporal module is trained by a weighted sum of losses."""

    losses: AlignmentLossWeights = field(default_factory=AlignmentLossWeights)
    dataset: AlignmentDataConfig = field(default_factory=AlignmentDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        dataset, weights = self.dataset, self.loss_weights
        yield from dataset.augment_problems(dataset.data, dataset.features, (*PICTURE_CHANGES, MIX))
        yield (
            dataset.overlapped and dataset.mixes,
            "overlapped draws clips of one video with its consecutive captions, and augment mix joins those of two; "
            "leave one of them out",
        )
        yield not weights, f"no loss has a weight; give a weight to one of {', '.join(vars(self.losses))}"
        yield dataset.overlapped and not dataset.data, "overlapped needs data: simulated captions have no times"
        yield (
            dataset.batches == "alike" and (not dataset.data or dataset.overlapped),
            "batches alike needs data, and excludes overlapped",
        )
        yield (
            dataset.batches == "alike" and "=" in dataset.data,
            "batches alike mixes files in their own proportions; leave out the weights in data",
        )
        yield (
            dataset.batches == "alike" and dataset.features == "none",
            "batches alike compares the features of all rows, so they must be kept; give a directory as features",
        )
        yield (
            "audio" in weights and (self.model_config.audio.kind == "none" or dataset.features != "none"),
            "audio needs a model that hears, such as world-sound, and features none, because kept features have no "
            "sound",
        )
        yield (
            not dataset.data and bool(weights.keys() - set(SIMULATED_LOSSES)),
            f"simulated videos bear only the losses {' and '.join(SIMULATED_LOSSES)}; give data for the others",
        )

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weights that are not 0, by the name of their loss."""
        return {name: weight for name, weight in vars(self.losses).items() if weight}


DEBUG_STAGE1 = AlignmentRecipe(
    name="debug_stage1",
    network=NetworkConfig(model="debug"),
    losses=AlignmentLossWeights(contrastive=1.0, caption=1.0),
    dataset=AlignmentDataConfig(held_out=1),
)
LITE_STAGE1 = AlignmentRecipe(
    name="lite_stage1",
    network=NetworkConfig(model="lite"),
    losses=AlignmentLossWeights(contrastive=1.0),
    optimizer=StageOptimizerConfig(learning_rate=2e-3),
    checkpoints=CheckpointConfig(save_every=20),
    dataset=AlignmentDataConfig(num_videos=1920, batch_size=32),
)
# The learning rate and weight decay of BLIP-2's stage 1 (Li et al. 2023), for GPUs.
CLIP_B32_STAGE1 = AlignmentRecipe(
    name="clip_b32_smollm2_stage1",
    network=NetworkConfig(model="clip_b32-smollm2_1.7b"),
    losses=AlignmentLossWeights(caption=1.0, itc=1.0, itm=1.0, itg=1.0),
    optimizer=StageOptimizerConfig(learning_rate=1e-4, weight_decay=0.05),
    parallelism=VideoLLMParallelism(bf16=True),
    checkpoints=CheckpointConfig(save_every=500),
    dataset=AlignmentDataConfig(data="data/captions.jsonl", features="runs/features", batch_size=256, workers=4),
)
CLIP_L14_STAGE1 = CLIP_B32_STAGE1.changed(
    name="clip_l14_qwen7b_stage1", model="clip_l14_336-qwen2.5_7b", gradient_accumulation_steps=2
)

_LARGE = (CLIP_B32_STAGE1, CLIP_L14_STAGE1)
STAGE1: dict[str, AlignmentRecipe] = {
    r.name: r
    for r in (
        DEBUG_STAGE1,
        LITE_STAGE1,
        *_LARGE,
        *(zero_variant(r, stage, offload) for r in _LARGE for stage, offload in ZERO_VARIANTS),
    )
}
