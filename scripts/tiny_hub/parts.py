"""What the tiny models of transformers are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 56 * 112}  # of a frame, for processors that keep its shape
SQUARE = {"height": 56, "width": 56}
Sizes = dict[str, Any]
ENDS = {"Qwen2_5Omni": ["index"], "Qwen3OmniMoe": ["id"]}  # of the names of placeholders' ids in a config


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """tokens: special ones. named: those that the tokenizer has an attribute for. video, image: what the chat template
    writes for them. config: from the tokenizer. processor: from the tokenizer. knows_tools: whether the chat template
    writes functions and their calls. speaks: whether it could speak too."""

    tokens: tuple[str, ...] = ()
    named: dict[str, str]
    video: str
    image: str
    config: Callable[[PreTrainedTokenizerBase], PretrainedConfig]
    processor: Callable[[PreTrainedTokenizerBase], ProcessorMixin]
    knows_tools: bool = False
    speaks: bool = False


def of(name: str, **values: Any) -> Any:
    """An object of a class of transformers."""
    return getattr(transformers, name)(**values)


def text(tokenizer: PreTrainedTokenizerBase, **values: Any) -> Sizes:
    """The sizes of a language model of two layers."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        **values,
    }


def mrope(*section: int, **values: Any) -> Sizes:
    """Positions in time, height and width."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(section), **values}}


def tower(**values: Any) -> Sizes:
    """The sizes of a vision tower of two layers."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**sizes, "image_size": 56, "patch_size": 14, **values}


def qwen_tower(**values: Any) -> Sizes:
    return {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32, **values}


def ids(tokenizer: PreTrainedTokenizerBase, **names: str) -> dict[str, Any]:
    """The ids of tokens, by the fields of a config."""
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}


def qwen(name: str, vision: Sizes, rope: Sizes, video: str = "Qwen2VL", processor: str = "", patch: int = 14, **more):
    """The families of Qwen-VL, which differ in their sizes."""
    placeholders = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    ends = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    size = {edge: pixels * (patch**2) // 14**2 for edge, pixels in PIXELS.items()}
    return Tiny(
        named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
        tokens=("<|vision_start|>", "<|vision_end|>"),
        video="<|vision_start|><|video_pad|><|vision_end|>",
        image="<|vision_start|><|image_pad|><|vision_end|>",
        config=lambda t: of(
            f"{name}Config",
            text_config=text(t, **rope, **more),
            vision_config=vision,
            **ids(t, **placeholders, **ends),
        ),
        processor=lambda t: of(
            f"{processor or name}Processor",
            image_processor=of("Qwen2VLImageProcessor", size=size, patch_size=patch),
            tokenizer=t,
            video_processor=of(f"{video}VideoProcessor", size=size, patch_size=patch),
        ),
    )


def omni(name: str, vision: Sizes, audio: Sizes, rope: Sizes, video: str, patch: int = 14, **more: Any) -> Tiny:
    """The families of Qwen-Omni, without the part that speaks."""
    size = {edge: pixels * (patch**2) // 14**2 for edge, pixels in PIXELS.items()}
    ends = {"vision_start_token_id": "<|vision_bos|>", "vision_end_token_id": "<|vision_eos|>"}
    heard = {"audio_start_token_id": "<|audio_bos|>", "audio_end_token_id": "<|audio_eos|>"}
    seen = {f"{kind}_token_{end}": f"<|{kind.upper()}|>" for kind in ("image", "video", "audio") for end in ENDS[name]}
    return Tiny(
        named={
            "image_token": "<|IMAGE|>",
            "video_token": "<|VIDEO|>",
            "audio_token": "<|AUDIO|>",
            "vision_bos_token": "<|vision_bos|>",
            "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>",
            "audio_eos_token": "<|audio_eos|>",
        },
        video="<|vision_bos|><|VIDEO|><|vision_eos|>",
        image="<|vision_bos|><|IMAGE|><|vision_eos|>",
        config=lambda t: of(
            f"{name}Config",
            thinker_config={
                "text_config": text(t, **rope, **more),
                "vision_config": vision,
                "audio_config": {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, **audio},
                **ids(t, **seen, **ends, **heard),
            },
            enable_audio_output=False,
        ),
        processor=lambda t: of(
            f"{name}Processor",
            image_processor=of("Qwen2VLImageProcessor", size=size, patch_size=patch),
            video_processor=of(f"{video}VideoProcessor", size=size, patch_size=patch),
            feature_extractor=of("WhisperFeatureExtractor", feature_size=128),
            tokenizer=t,
        ),
        speaks=True,
    )


def llava(name: str, processor: Callable[..., ProcessorMixin], vision: Sizes | None = None, **values: Any) -> Tiny:
    """The families of LLaVA, with a CLIP tower if no other is given."""
    return Tiny(
        named={"image_token": "<image>", "video_token": "<video>"},
        video="<video>\\n",
        image="<image>\\n",
        config=lambda t: of(
            f"{name}Config",
            text_config=text(t, model_type="llama"),
            vision_config=vision or tower(model_type="clip_vision_model", projection_dim=32),
            **ids(t, image_token_index="<image>", video_token_index="<video>"),
            **values,
        ),
        processor=processor,
    )


def glm(name: str) -> Tiny:
    ends = {"image_start_token_id": "<|begin_of_image|>", "image_end_token_id": "<|end_of_image|>"}
    video = {"video_start_token_id": "<|begin_of_video|>", "video_end_token_id": "<|end_of_video|>"}
    return Tiny(
        named={"image_token": "<|image|>", "video_token": "<|video|>"},
        tokens=(*ends.values(), *video.values()),
        video="<|begin_of_video|><|video|><|end_of_video|>",
        image="<|begin_of_image|><|image|><|end_of_image|>",
        config=lambda t: of(
            f"{name}Config",
            text_config=text(t, model_type="glm4v_text", **mrope(2, 1, 1, partial_rotary_factor=1.0)),
            vision_config=qwen_tower(model_type="glm4v_vision", image_size=56),
            **ids(t, image_token_id="<|image|>", video_token_id="<|video|>", **ends, **video),
        ),
        processor=lambda t: of(
            f"{name}Processor",
            image_processor=of(f"{name}ImageProcessor", size=PIXELS),
            video_processor=of(f"{name}VideoProcessor", size=PIXELS),
            tokenizer=t,
        ),
    )
