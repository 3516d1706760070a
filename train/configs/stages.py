"""What the recipes of stage 1 and stage 2 share."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from train.configs.base import DataConfig, OptimizerConfig, ParallelismConfig, Recipe, option
from videollm.config import Dtype, ModelConfig, StemKind, TemporalKind
from videollm.features.shards import StoredDtype
from videollm.presets import preset


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """How weights are held."""

    frozen_dtype: Dtype = option("auto", "Number format of the frozen language model; what is trained is in float32.")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(WeightsConfig):
    """Which model is trained."""

    model: str = option("lite", "Preset of the model that is trained; empty: the model of the checkpoint in init.")
    encoder: str = option("", "Weights of the frame encoder instead of the preset's, such as local-dir:FOLDER.")
    llm: str = option("", "Language model instead of the preset's: a folder or a hub id.")
    temporal: Literal[TemporalKind, ""] = option(
        "", "Kind of temporal module instead of the preset's, at the same number of tokens."
    )
    queries: int = option(0, "Number of tokens of a segment instead of the preset's; 0: the preset's.")
    stem: Literal[StemKind, ""] = option(
        "", "Motion stem before the temporal module instead of the preset's: motion or none; it needs square frames."
    )


@dataclass(frozen=True, kw_only=True)
class StageOptimizerConfig(OptimizerConfig):
    """The optimizers of models that are trained from random weights or tuned."""

    optimizer: Literal["adamw", "muon"] = option(
        "adamw",
        "adamw, or muon: Muon for the weights of linear layers and convolutions and AdamW for all else, which takes "
        "fewer steps from random weights.",
    )


@dataclass(frozen=True, kw_only=True)
class VideoLLMParallelism(ParallelismConfig):
    """Precision and parallelism of stage 1 and stage 2."""

    offload: bool = option(False, "Keep what ZeRO shards in host memory; needs zero_stage 2 or 3.")
    gradient_accumulation_steps: int = option(1, "Forward and backward passes of one step.")
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, about a third more time."
    )
    compile: bool = option(False, "Compile the model with torch.compile.")


@dataclass(frozen=True, kw_only=True)
class VideoDataConfig(DataConfig):
    """Instruction rows about videos, or simulated videos."""

    data: str = option(
        "", "Instruction data to train on: FILE or FILE=WEIGHT, separated by commas; empty: simulated videos."
    )
    eval_data: str = option("", "Held-out rows, written in the same way; empty: no evaluation.")
    features: str = option(
        "",
        "Directory that keeps the frozen encoder's features; empty: OUTPUT/features; "
        "none: encode videos while training and keep nothing.",
    )
    feature_dtype: StoredDtype = option(
        "auto",
        "Number format of the kept features: auto keeps the encoder's; float16 and float8 take a half and a quarter of "
        "float32.",
    )
    skip_bad: int = option(0, "How many rows may have no usable video; they are counted and left out.")
    num_videos: int = option(16, "Number of simulated videos that a run draws.")
    held_out: int = option(100, "Classes left out of simulated videos, to test names that training never saw.")
    epochs: float = option(1.0, "How often each row is seen.")


@dataclass(frozen=True, kw_only=True)
class StageRecipe(Recipe):
    """A run that trains a video language model."""

    optimizer: StageOptimizerConfig = field(default_factory=StageOptimizerConfig)
    parallelism: VideoLLMParallelism = field(default_factory=VideoLLMParallelism)
    dataset: VideoDataConfig = field(default_factory=VideoDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        parallelism, dataset = self.parallelism, self.dataset
        passes, stage = parallelism.gradient_accumulation_steps, parallelism.zero_stage
        yield (
            self.optimizer.optimizer == "muon" and stage > 0,
            f"optimizer is muon and zero_stage is {stage}, but ZeRO shards matrices, which Muon needs whole; set "
            "zero_stage 0 or optimizer adamw",
        )
        yield passes < 1, f"gradient_accumulation_steps is {passes}; it must be at least 1"
        yield (
            dataset.batch_size % passes > 0,
            f"batch_size {dataset.batch_size} must be a multiple of gradient_accumulation_steps {passes}",
        )
        yield (
            parallelism.offload and stage < 2,
            f"offload needs ZeRO stage 2 or 3, and zero_stage is {stage}: below stage 2 every rank holds all of what "
            "would be offloaded",
        )
        yield (
            not dataset.data and dataset.num_videos < dataset.batch_size,
            f"num_videos {dataset.num_videos} is less than batch_size {dataset.batch_size}; no step can be made",
        )
        yield (
            bool(dataset.eval_data) and not dataset.data,
            "eval_data needs data; measure runs on simulated videos with train/experiments/lite_accuracy.py",
        )
        yield (
            dataset.features == "none" and dataset.workers > 0,
            f"workers is {dataset.workers}, but with features none the training process itself encodes; set workers 0",
        )


@dataclass(frozen=True, kw_only=True)
class PresetRecipe(StageRecipe):
    """A run that trains a `VideoLLM` built from a preset."""

    network: NetworkConfig = field(default_factory=NetworkConfig)

    @property
    def base_config(self) -> ModelConfig:
        """The configuration of the model without this recipe's choices."""
        return preset(self.network.model)

    @property
    def model_config(self) -> ModelConfig:
        """The base with this recipe's choices, without an adapter."""
        network, config = self.network, self.base_config
        llm = replace(config.llm, lora=None, **({"source": network.llm} if network.llm else {}))
        encoder = replace(config.encoder, **({"pretrained": network.encoder} if network.encoder else {}))
        kind, queries = network.temporal or config.temporal.kind, network.queries or config.temporal.queries
        temporal = replace(config.temporal, kind=kind, queries=queries, stem=network.stem or config.temporal.stem)
        return replace(config, encoder=encoder, temporal=temporal, llm=llm)

    @property
    def language_model_dtype(self) -> Dtype:
        """How the language model's weights are held while it trains."""
        return self.network.frozen_dtype


ZERO_VARIANTS = ((1, False), (2, False), (3, False), (2, True), (3, True))


def zero_variant(recipe: Any, stage: int, offload: bool) -> Any:
    """The recipe under DeepSpeed, named after its ZeRO stage."""
    name = f"{recipe.name}_zero{stage}{'_offload' if offload else ''}"
    return recipe.changed(name=name, output="", zero_stage=stage, offload=offload)
