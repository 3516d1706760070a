"""Recipes of stage 2: tune the temporal module and the language model on instructions."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from train.configs.augment import RowAugmentConfig
from train.configs.base import CheckpointConfig, option
from train.configs.stages import (
    ZERO_VARIANTS,
    NetworkConfig,
    PresetRecipe,
    StageOptimizerConfig,
    StageRecipe,
    VideoDataConfig,
    VideoLLMParallelism,
    WeightsConfig,
    zero_variant,
)
from videollm.config import AdapterName, Dtype, LoraConfig, ModelConfig
from videollm.model import base, config_of


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """What is trained of the language model."""

    init: str = option(
        "",
        "What to start from: the checkpoint directory of stage 1 or of an earlier stage 2; for hub_stage2 a hub id, a "
        "directory of transformers, or an adapter of PEFT.",
    )
    tune: Literal["adapter", "projector", "language_model", "full"] = option(
        "adapter",
        "What is trained: the projector and an adapter, the projector alone, the language model alone (and an audio "
        "branch that init lacks), or both (full).",
    )
    adapter: AdapterName = option(
        "lora",
        "Kind of a new adapter: lora; dora, which learns lengths of rows apart; ia3, which learns factors alone; "
        "prompt, which learns embeddings before each prompt.",
    )
    lora_r: int = option(0, "Rank of a new lora or dora, whose alpha is twice that; 0: as the model has it.")
    virtual_tokens: int = option(20, "Number of embeddings that a new adapter prompt learns.")
    load_in_4bit: bool = option(False, "QLoRA: hold the frozen language model in 4 bits.")
    neftune: float = option(0.0, "Alpha of the noise that is added to word embeddings (NEFTune); 0: none.")

    @property
    def new_adapter(self) -> LoraConfig | None:
        """The adapter that the options ask for, None for the one that the model has."""
        made = LoraConfig(kind=self.adapter, virtual_tokens=self.virtual_tokens)
        if not made.ranked:
            return made
        return replace(made, r=self.lora_r, alpha=2 * self.lora_r) if self.lora_r else None

    @property
    def trains_language_model(self) -> bool:
        """Whether all weights of the language model are trained."""
        return self.tune in ("language_model", "full")


@dataclass(frozen=True, kw_only=True)
class InstructionDataConfig(RowAugmentConfig, VideoDataConfig):
    """Conversations about videos, images or nothing, or simulated videos."""

    batches: Literal["shuffled", "length"] = option(
        "shuffled", "How rows form batches: shuffled, or grouped by length, which pads less."
    )
    conversation_tokens: int = option(400, "Longest prompt in tokens, answers included; 0: the model's context.")
    questions: int = option(5, "Questions about each rendered clip, beside its caption; they share one visual pass.")
    hide_videos: bool = option(
        False, "Learn the words of rendered clips alone, which shows what questions tell without their video."
    )
    checked: bool = option(
        False, "Ask of rendered clips what train/rl.py can check: choices and spans of time, in its words."
    )
    evaluate_rows: int = option(
        0, "Held-out questions that are answered by generation at each evaluation; 0: only the loss is computed."
    )


@dataclass(frozen=True, kw_only=True)
class TuningRecipe(StageRecipe):
    """Stage 2 of any model. Only the answers of a conversation bear a loss."""

    tuning: TuningConfig = field(default_factory=TuningConfig)
    dataset: InstructionDataConfig = field(default_factory=InstructionDataConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        tuning, dataset = self.tuning, self.dataset
        yield from dataset.augment_problems(dataset.data, dataset.features)
        yield (
            tuning.load_in_4bit and self.parallelism.zero_stage == 3,
            "load_in_4bit with zero_stage 3: ZeRO-3 cannot shard 4-bit weights; use zero_stage 2, which shards the "
            "optimizer and the gradients of the adapter",
        )
        yield (
            tuning.adapter == "dora" and not tuning.lora_r,
            "dora is about a new adapter, but lora_r is 0; give a rank, such as 16",
        )
        yield (
            tuning.adapter not in ("lora", "dora") and tuning.lora_r > 0,
            f"an adapter {tuning.adapter} has no rank; give lora_r 0",
        )
        yield tuning.virtual_tokens < 1, f"virtual_tokens is {tuning.virtual_tokens}; it must be at least 1"
        yield tuning.lora_r < 0, f"lora_r is {tuning.lora_r}; it must be at least 0"
        yield (
            tuning.load_in_4bit and tuning.trains_language_model,
            f"load_in_4bit with tune {tuning.tune}: 4-bit weights cannot be trained; use tune adapter",
        )
        yield tuning.neftune < 0, f"neftune is {tuning.neftune}; it must be at least 0"
        yield (
            dataset.batches == "length" and (not dataset.data or dataset.features == "none"),
            "batches length needs data and kept features, which tell how long each row is",
        )
        yield dataset.evaluate_rows > 0 and not dataset.eval_data, "evaluate_rows needs eval_data"


@dataclass(frozen=True, kw_only=True)
class InstructionRecipe(TuningRecipe, PresetRecipe):
    """Stage 2 of a model that is built from a preset."""

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        yield (
            self.tuning.tune == "adapter" and self.model_config.llm.lora is None,
            f"tune is adapter, but {self.network.model or self.tuning.init} has none; give lora_r, or tune projector "
            "or full",
        )
        yield (
            self.tuning.tune == "language_model" and self.parallelism.zero_stage == 3,
            "tune language_model with zero_stage 3 would divide the frozen projector among ranks; use zero_stage 2",
        )

    @property
    def base_config(self) -> ModelConfig:
        """The preset, or the checkpoint that training starts from if no preset is named."""
        if self.network.model:
            return super().base_config
        config, directory = config_of(self.tuning.init), Path(self.tuning.init)
        return replace(config, llm=base(config.llm, directory))

    @property
    def model_config(self) -> ModelConfig:
        """The base with this recipe's choices."""
        config, tuning = super().model_config, self.tuning
        lora = None
        if tuning.tune == "adapter":
            lora = tuning.new_adapter or self.base_config.llm.lora
        return replace(config, llm=replace(config.llm, lora=lora, load_in_4bit=tuning.load_in_4bit))

    @property
    def language_model_dtype(self) -> Dtype:
        """Weights that AdamW updates must be float32: a small update would be lost in bfloat16."""
        return "float32" if self.tuning.trains_language_model else super().language_model_dtype


@dataclass(frozen=True, kw_only=True)
class HubRecipe(TuningRecipe):
    """Stage 2 of a video model of transformers, which has its own vision tower and projector."""

    weights: WeightsConfig = field(default_factory=WeightsConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        tuning = self.tuning
        yield not tuning.init, "init is empty; give the hub id or the directory of a video model of transformers"
        yield not self.dataset.data, "data is empty; give the file of instruction rows to train on"
        yield (
            tuning.adapter == "prompt",
            "adapter prompt is for models of this project, whose prompts have places for its tokens; take lora, dora "
            "or ia3",
        )
        yield self.dataset.batches == "length", "batches length needs features of known sizes; use batches shuffled"
        yield (
            tuning.tune == "adapter" and tuning.new_adapter is None,
            "tune is adapter and lora_r is 0; give the rank, such as 16",
        )
        yield (
            tuning.tune == "language_model",
            "tune language_model is for models that are built from a preset; use tune adapter, projector or full",
        )
        yield (
            tuning.load_in_4bit and tuning.tune != "adapter",
            f"load_in_4bit with tune {tuning.tune}: 4-bit weights cannot be trained; use tune adapter",
        )

    @property
    def lora(self) -> LoraConfig | None:
        """The new adapter, whose layers the model decides."""
        tuning = self.tuning
        return tuning.new_adapter if tuning.tune == "adapter" else None

    @property
    def dtype(self) -> Dtype:
        """How the model is held. Weights that AdamW updates must be float32."""
        return self.weights.frozen_dtype if self.tuning.tune == "adapter" else "float32"


DEBUG_STAGE2 = InstructionRecipe(
    name="debug_stage2",
    network=NetworkConfig(model="debug"),
    tuning=TuningConfig(init="runs/debug_stage1", tune="projector"),
    dataset=InstructionDataConfig(conversation_tokens=600, held_out=1),
)
LITE_STAGE2 = InstructionRecipe(
    name="lite_stage2",
    network=NetworkConfig(model="lite"),
    tuning=TuningConfig(init="runs/lite_stage1"),
    optimizer=StageOptimizerConfig(learning_rate=1.5e-3),
    parallelism=VideoLLMParallelism(gradient_accumulation_steps=2),
    dataset=InstructionDataConfig(num_videos=4800, batch_size=8),
)
# Most questions of a long conversation can be answered from earlier answers; these few are read from the video.
LITE_STAGE2_SHORT = LITE_STAGE2.changed(
    name="lite_stage2_short",
    init="runs/lite_stage2",
    num_videos=1280,
    batch_size=16,
    gradient_accumulation_steps=4,
    learning_rate=5e-4,
    conversation_tokens=250,
    seed=1,
)
# More of the short conversations, because answers were still getting better.
LITE_STAGE2_LAST = LITE_STAGE2_SHORT.changed(
    name="lite_stage2_last", init="runs/lite_stage2_short", num_videos=3840, seed=2
)
# The world: clips are rendered while training; all of a language model that is small enough is trained. What reads the
# clips stays as dense truth has made it: gradients through a language model that cannot read yet would undo it.
WORLD_TEXT = InstructionRecipe(
    name="world_text",
    network=NetworkConfig(model="world"),
    seed=10,
    tuning=TuningConfig(tune="language_model"),
    optimizer=StageOptimizerConfig(optimizer="muon", learning_rate=3e-3, weight_decay=0.02),
    parallelism=VideoLLMParallelism(bf16=True),
    checkpoints=CheckpointConfig(log_every=50, save_every=500),
    # All questions of a clip, of which there are seldom more than 20, share its visual pass.
    dataset=InstructionDataConfig(num_videos=1_600, batch_size=4, questions=20, workers=1, hide_videos=True),
)
WORLD_STAGE2 = WORLD_TEXT.changed(
    name="world_stage2", seed=20, init="runs/world_events", num_videos=30_000, hide_videos=False
)
# The form of choices and spans of time, which reinforcement (`train/rl.py world_rl`) starts from.
WORLD_CHECKED = WORLD_STAGE2.changed(
    name="world_checked", seed=30, init="runs/world_stage2", num_videos=6_000, checked=True
)
# The audio branch learns beside a language model that answers about clips already. Of each clip five questions about
# sounds and these many others are asked.
WORLD_SOUND = WORLD_STAGE2.changed(
    name="world_sound", model="world-sound", seed=30, init="runs/world_stage2", num_videos=4_800, questions=3
)
# The learning rate and batch of LLaVA-1.5's LoRA recipe (Liu et al. 2024), for GPUs.
CLIP_B32_STAGE2 = InstructionRecipe(
    name="clip_b32_smollm2_stage2",
    network=NetworkConfig(model="clip_b32-smollm2_1.7b"),
    tuning=TuningConfig(init="runs/clip_b32_smollm2_stage1"),
    optimizer=StageOptimizerConfig(learning_rate=2e-4, warmup_ratio=0.03),
    parallelism=VideoLLMParallelism(bf16=True, gradient_checkpointing=True),
    checkpoints=CheckpointConfig(save_every=500),
    dataset=InstructionDataConfig(
        data="data/instructions.jsonl",
        features="runs/features",
        batches="length",
        batch_size=128,
        conversation_tokens=0,
        workers=4,
    ),
)
CLIP_L14_STAGE2 = CLIP_B32_STAGE2.changed(
    name="clip_l14_qwen7b_stage2",
    model="clip_l14_336-qwen2.5_7b",
    init="runs/clip_l14_qwen7b_stage1",
    gradient_accumulation_steps=4,
)

# Any checkpoint directory, also one of an imported system, which differs from all presets.
CHECKPOINT_STAGE2 = InstructionRecipe(
    name="checkpoint_stage2",
    network=NetworkConfig(model=""),
    tuning=TuningConfig(init="runs/video-llama", tune="projector"),
    optimizer=StageOptimizerConfig(learning_rate=1e-4, warmup_ratio=0.03),
    dataset=InstructionDataConfig(
        data="data/instructions.jsonl", features="none", batch_size=16, conversation_tokens=0
    ),
)

# Any video model of transformers; the batch and learning rate of LLaVA-1.5's LoRA recipe (Liu et al. 2024), an eighth
# and half of them for small data.
HUB_STAGE2 = HubRecipe(
    name="hub_stage2",
    tuning=TuningConfig(init="Qwen/Qwen3-VL-2B-Instruct", lora_r=16),
    optimizer=StageOptimizerConfig(learning_rate=1e-4, warmup_ratio=0.03),
    dataset=InstructionDataConfig(
        data="data/instructions.jsonl", features="none", batch_size=16, conversation_tokens=8192
    ),
)

_LARGE = (CLIP_B32_STAGE2, CLIP_L14_STAGE2)
_QLORA = tuple(r.changed(name=f"{r.name}_qlora", load_in_4bit=True) for r in _LARGE)
STAGE2: dict[str, TuningRecipe] = {
    r.name: r
    for r in (
        DEBUG_STAGE2,
        LITE_STAGE2,
        LITE_STAGE2_SHORT,
        LITE_STAGE2_LAST,
        WORLD_TEXT,
        WORLD_STAGE2,
        WORLD_CHECKED,
        WORLD_SOUND,
        CHECKPOINT_STAGE2,
        HUB_STAGE2,
        *_LARGE,
        *_QLORA,
        *(zero_variant(r, stage, offload) for r in _LARGE for stage, offload in ZERO_VARIANTS),
        # ZeRO-3 cannot shard 4-bit weights.
        *(zero_variant(r, stage, offload) for r in _QLORA for stage, offload in ZERO_VARIANTS if stage < 3),
    )
}
