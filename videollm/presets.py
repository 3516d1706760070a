"""Complete configurations by their names."""

from dataclasses import replace

from videollm.audio_config import AudioConfig
from videollm.config import (
    EncoderConfig,
    LanguageModelConfig,
    LoraConfig,
    ModelConfig,
    PromptConfig,
    SamplingConfig,
    SegmentConfig,
    TemporalConfig,
)
from videollm.errors import ConfigError
from videollm.tower_config import TowerConfig

# Adapting every linear layer makes a training step on CPU 1.6x as long.
LITE_LORA = LoraConfig(r=16, alpha=32, targets=("q_proj", "v_proj", "o_proj", "down_proj"))

LITE = ModelConfig(
    name="lite",
    sampling=SamplingConfig(fps=2.0),
    segments=SegmentConfig(by="scene", frames=8),
    encoder=EncoderConfig(kind="lite", name="efficientnet_lite0", dtype="float32"),
    temporal=TemporalConfig(kind="qformer", queries=4, width=256, layers=2, heads=4),
    llm=LanguageModelConfig(source="asset:smollm2-135m-instruct", dtype="float32", lora=LITE_LORA),
    prompt=PromptConfig(context=2048, max_new_tokens=64),  # trained on conversations of up to about 450 tokens
    senses=("speech", "objects"),
)

# The text tower of this preset reads 100 languages. The language model of `lite` reads MiniLM's space only, so that
# there is none here.
LITE_MULTILINGUAL = ModelConfig(
    name="lite-multilingual",
    sampling=LITE.sampling,
    segments=LITE.segments,
    encoder=replace(LITE.encoder, pretrained="multilingual-e5-small"),
    llm=LanguageModelConfig(source="none"),
)

DEBUG = ModelConfig(
    name="debug",
    sampling=SamplingConfig(fps=2.0),
    segments=SegmentConfig(by="scene", frames=8),
    encoder=EncoderConfig(kind="debug", name="debug", dtype="float32"),
    temporal=TemporalConfig(kind="qformer", queries=4, width=32, layers=2, heads=2),
    llm=LanguageModelConfig(source="debug", dtype="float32"),
    prompt=PromptConfig(context=2048, max_new_tokens=16),
)

# This preset is for rendered clips. `train/dense.py world_frames` trains its tower; the shipped encoder gives evidence.
WORLD = ModelConfig(
    name="world",
    sampling=SamplingConfig(fps=8.0),
    segments=SegmentConfig(by="time", frames=24),
    encoder=EncoderConfig(kind="lite", name="efficientnet_lite0", dtype="float32", pixels=64),
    temporal=TemporalConfig(
        kind="attentive",
        queries=12,
        width=96,
        heads=4,
        stem="motion",
        tower=TowerConfig(kind="world", image_size=64, patch=8, width=96, layers=2),
    ),
    llm=LanguageModelConfig(source="asset:smollm2-135m-instruct", dtype="float32", lora=LITE_LORA),
    prompt=PromptConfig(system="", tags=0, context=512, max_new_tokens=64),
)

# The preset `world` with ears.
WORLD_SOUND = replace(
    WORLD,
    name="world-sound",
    audio=AudioConfig(kind="mel", clips=24, token_dim=64, queries=6, width=96, layers=2, heads=4, dropout=0.0),
)

CLIP_B32_SMOLLM2 = ModelConfig(
    name="clip_b32-smollm2_1.7b",
    sampling=SamplingConfig(fps=1.0),
    encoder=EncoderConfig(kind="open_clip", name="ViT-B-32", pretrained="openai", layer=-2),
    temporal=TemporalConfig(kind="qformer", queries=32, width=768, layers=2, heads=12),
    llm=LanguageModelConfig(source="HuggingFaceTB/SmolLM2-1.7B-Instruct", lora=LoraConfig(r=64, alpha=128)),
    prompt=PromptConfig(context=8192, max_new_tokens=512),
)

CLIP_L14_QWEN = replace(
    CLIP_B32_SMOLLM2,
    name="clip_l14_336-qwen2.5_7b",
    encoder=EncoderConfig(kind="open_clip", name="ViT-L-14-336", pretrained="openai", layer=-2),
    llm=LanguageModelConfig(source="Qwen/Qwen2.5-7B-Instruct", lora=LoraConfig(r=128, alpha=256)),
    prompt=PromptConfig(context=32768, max_new_tokens=1024),
)

PRESETS: dict[str, ModelConfig] = {
    c.name: c for c in (LITE, LITE_MULTILINGUAL, DEBUG, WORLD, WORLD_SOUND, CLIP_B32_SMOLLM2, CLIP_L14_QWEN)
}


def preset(name: str) -> ModelConfig:
    """Returns the configuration with this name. Raises ConfigError, which lists the names, if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"no preset is named {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
