"""Recipes of decoding alignment: signal tokens and output projections learn the text conditions of diffusion models."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from train.configs.base import CheckpointConfig, option
from train.configs.stages import StageOptimizerConfig, StageRecipe, VideoDataConfig


@dataclass(frozen=True, kw_only=True)
class ShownConfig:
    """What the model learns to show, and by what."""

    init: str = option(
        "", "What to start from: the checkpoint directory of stage 1, or one that decoding alignment has written."
    )
    projection: Literal["transformer", "qformer"] = option("transformer", "Kind of the output projections.")
    image_decoder: str = option("", "Diffusers pipeline that makes pictures: a directory or a hub id; empty: none.")
    video_decoder: str = option("", "Diffusers pipeline that makes videos.")
    audio_decoder: str = option("", "Diffusers pipeline that makes sounds.")
    image_tokens: int = option(4, "Signal tokens of a picture.")
    video_tokens: int = option(24, "Signal tokens of a video.")
    audio_tokens: int = option(8, "Signal tokens of a sound.")
    output_width: int = option(512, "Width of the output projections.")
    output_layers: int = option(4, "Layers of the output projections; a transformer has as many of its decoder.")
    output_heads: int = option(4, "Attention heads of the output projections.")

    @property
    def decoders(self) -> tuple[str, str, str]:
        return self.image_decoder, self.video_decoder, self.audio_decoder

    @property
    def tokens(self) -> tuple[int, int, int]:
        return self.image_tokens, self.video_tokens, self.audio_tokens


@dataclass(frozen=True, kw_only=True)
class DecodingRecipe(StageRecipe):
    """Decoding alignment (NExT-GPT's second stage). The language model and all that reads videos are frozen."""

    shown: ShownConfig = field(default_factory=ShownConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        yield (
            self.parallelism.zero_stage == 3,
            "zero_stage 3 would divide the rows of the signal tokens, which the language model reads; use zero_stage 2",
        )
        yield not self.dataset.data, "data is empty; give the file of captioned rows to train on"
        yield (
            self.dataset.workers > 0,
            f"workers is {self.dataset.workers}, but the training process itself encodes captions; set workers 0",
        )


# The numbers of signal tokens and the sizes of the projections are NExT-GPT's.
NEXTGPT_DECODING = DecodingRecipe(
    name="decoding",
    shown=ShownConfig(init="runs/clip_b32_smollm2_stage1"),
    optimizer=StageOptimizerConfig(learning_rate=4e-4),
    checkpoints=CheckpointConfig(save_every=500),
    dataset=VideoDataConfig(data="data/captions.jsonl", batch_size=32),
)
DEBUG_DECODING = DecodingRecipe(
    name="debug_decoding",
    shown=ShownConfig(
        init="runs/debug_stage1",
        image_tokens=2,
        video_tokens=3,
        audio_tokens=2,
        output_width=32,
        output_layers=1,
        output_heads=2,
    ),
    optimizer=StageOptimizerConfig(learning_rate=1e-2),
    dataset=VideoDataConfig(data="data/captions.jsonl"),
)
DECODING: dict[str, DecodingRecipe] = {recipe.name: recipe for recipe in (DEBUG_DECODING, NEXTGPT_DECODING)}
