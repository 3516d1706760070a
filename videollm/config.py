"""Configurations, as frozen, keyword-only dataclasses that check their values.

All numbers that change a result are here, so that `config.json` beside a checkpoint has all of them. Variants are made
with `dataclasses.replace`. Complete configurations with names are in `presets.py`.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from videollm.audio_config import AudioConfig
from videollm.checks import check, check_choice, check_positive
from videollm.output_config import OutputConfig
from videollm.sampling_config import SamplingConfig as SamplingConfig
from videollm.tower_config import TowerConfig

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
AdapterName = Literal["lora", "dora", "ia3", "prompt"]
EncoderKind = Literal["lite", "open_clip", "internvideo2", "head", "aligner", "debug"]
TemporalKind = Literal["qformer", "pool", "concat", "merge", "attentive", "video_llama", "video_chatgpt", "videochat2"]
StemKind = Literal["none", "motion"]
Resize = Literal["trained", "squash", "nearest"]
PromptLayoutName = Literal["chat", "video_llama", "video_llama_2", "video_chatgpt", "videochat2"]
SenseName = Literal["speech", "objects", "text", "faces", "sounds"]
OWN_WEIGHTS = ("speech", "sounds")  # senses that take the weights of a directory


def split_sense(sense: str) -> tuple[SenseName, str]:
    """Returns the name of a sense and the directory of its weights, "" for those that come with the project.

    `sense` is a name such as "speech", or a name with a directory, as in "speech=runs/my-whisper". Raises ConfigError.
    """
    name, _, directory = sense.partition("=")
    check_choice("sense", name, SenseName)
    check(not directory or name in OWN_WEIGHTS, f"{sense!r} names a directory; only {', '.join(OWN_WEIGHTS)} take one")
    check(
        bool(directory) or name != "sounds",
        "the sense 'sounds' needs the directory of an audio classifier of transformers, as in sounds=DIRECTORY",
    )
    check("," not in directory, f"{directory!r} has a comma, which separates senses; rename the directory")
    return cast(SenseName, name), directory


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How frames are grouped into segments. Each segment becomes `TemporalConfig.queries` tokens in the prompt.

    Args:
        by: "time" takes every `frames` consecutive frames. "scene" divides at detected scene changes, and then into at
            most `frames` each.
        frames: The largest number of frames of a segment.
    """

    by: Literal["time", "scene"] = "time"
    frames: int = 8

    def __post_init__(self) -> None:
        check(self.by in ("time", "scene"), f"segments are by {self.by!r}; choose time or scene")
        check_positive(frames=self.frames)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The frozen frame encoder.

    Args:
        kind: The kind of encoder.
        name, pretrained: The architecture and the tag of open_clip, or `local-dir:FOLDER`. In a checkpoint directory
            `own:FOLDER` is a folder of it. For "lite", `pretrained` is the asset of the sentence model, "" for MiniLM.
        dtype: The dtype of the weights.
        layer: The ViT layer whose outputs are the patch tokens. -1 is the last, and -2 the one before, which LLaVA
            uses.
        resize: How frames are resized. "trained": as in the training of the encoder, mostly the short side to its size
            and a crop of the centre. "squash": both sides, bicubic, so that nothing is cut off and shapes change
            (Video-LLaMA). "nearest": the same without interpolation (Video-ChatGPT).
        class_token: Whether the class token, which reads the whole frame, comes before the patch tokens.
        pixels: If it is not 0, the tokens of a frame are its pixels, `pixels` on each side, for a temporal module with
            a tower of its own (see `TowerConfig`). Embeddings and concepts are still those of this encoder, and
            `resize` is about the pixels.
    """

    kind: EncoderKind = "lite"
    name: str = "efficientnet_lite0"
    pretrained: str = ""
    dtype: Dtype = "auto"
    layer: int = -1
    resize: Resize = "trained"
    class_token: bool = False
    pixels: int = 0

    def __post_init__(self) -> None:
        check_choice("encoder kind", self.kind, EncoderKind)
        check_choice("encoder dtype", self.dtype, Dtype)
        check_choice("resize", self.resize, Resize)
        check(not self.class_token or self.kind == "open_clip", "class_token needs an open_clip encoder; leave it out")
        check(self.pixels >= 0, f"pixels is {self.pixels}; it must be 0 or above")
        check(
            self.resize == "trained" or self.kind == "open_clip" or self.pixels > 0,
            f"resize {self.resize!r} needs an open_clip encoder or pixels",
        )


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """The module that turns the frame tokens (T,N,D) of one segment into `queries` tokens (Q,H).

    Args:
        kind: The kind of module.
        queries: Q, the number of tokens of a segment.
        width, layers, heads, mlp_ratio, dropout: Sizes of the Q-Former; "attentive" has `heads` queries of `width`.
        cross_attention_every: 1 gives every layer cross-attention (Video-LLaMA), and 2 every second layer from the
            first (BLIP-2).
        frame_queries, frame_layers: Sizes of the Q-Former that reads each frame (kind "video_llama").
        max_frames: The largest number of frames of a segment (kinds "video_llama" and "video_chatgpt").
        words, positions: The numbers of words and of positions of a Q-Former that reads text (kind "videochat2"). With
            0 words it reads none.
        instruction: The ids of the text that this Q-Former reads beside the frames.
        output_norm: Whether tokens are scaled to the size of word embeddings. The published systems do not do this.
        stem: "motion" mixes neighbouring frames and patches before the module reads them (`videollm.models.motion`).
        tower: The module's own tower, which reads the frames' pixels. Without it the module reads the encoder's tokens.
    """

    kind: TemporalKind = "qformer"
    queries: int = 8
    width: int = 384
    layers: int = 2
    heads: int = 6
    mlp_ratio: float = 4
    cross_attention_every: int = 1
    dropout: float = 0.0
    frame_queries: int = 32
    frame_layers: int = 12
    max_frames: int = 32
    words: int = 0
    positions: int = 512
    instruction: tuple[int, ...] = ()
    output_norm: bool = True
    stem: StemKind = "none"
    tower: TowerConfig | None = None

    def __post_init__(self) -> None:
        check(
            all(0 <= word < self.words for word in self.instruction),
            f"instruction {self.instruction} has ids outside the {self.words} words of the Q-Former",
        )
        check_positive(frame_queries=self.frame_queries, frame_layers=self.frame_layers, max_frames=self.max_frames)
        check_choice("temporal kind", self.kind, TemporalKind)
        check_choice("stem", self.stem, StemKind)
        check_positive(queries=self.queries, width=self.width, layers=self.layers, heads=self.heads)
        check_positive(mlp_ratio=self.mlp_ratio, cross_attention_every=self.cross_attention_every)
        check(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must be 0 or above and below 1")
        check(self.width % self.heads == 0, f"width {self.width} must be a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Adapters of the language model (PEFT): low-rank ones on its linear layers unless `kind` says otherwise.

    Args:
        r: The rank.
        alpha: The scale. The adapter's output is multiplied by alpha / r.
        dropout: The probability of dropout in training.
        targets: Names of the adapted layers, or "all-linear", which for ia3 are keys, values and what the feed-forward
            block ends with.
        kind: "lora"; "dora", which learns the length of each row of the adapted weights apart from its direction, which
            alone the low-rank update then changes (Liu et al. 2024); or "ia3", which has no rank, scale and dropout,
            and learns a factor of each key, value and activation (Liu et al. 2022); or "prompt", which learns
            embeddings before each prompt and changes no layer (Lester et al. 2021).
        virtual_tokens: The number of embeddings that "prompt" learns.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    kind: AdapterName = "lora"
    virtual_tokens: int = 20

    def __post_init__(self) -> None:
        check_choice("adapter kind", self.kind, AdapterName)
        check_positive(r=self.r, alpha=self.alpha, virtual_tokens=self.virtual_tokens)

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return self.kind in ("lora", "dora")


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Any causal language model with a chat template.

    Args:
        source: `asset:NAME` (weights from a package), a directory, a hub id, `own:FOLDER` (of the checkpoint
            directory), `debug` (random and tiny), or `none` for an encoder that does not answer.
        revision: The revision on the hub.
        dtype: The dtype of the weights.
        load_in_4bit: Whether to load 4-bit weights (NF4), which needs bitsandbytes.
        lora: The adapter, or None.
    """

    source: str = "asset:smollm2-135m-instruct"
    revision: str | None = None
    dtype: Dtype = "auto"
    load_in_4bit: bool = False
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        check_choice("language model dtype", self.dtype, Dtype)

    @property
    def layer_adapter(self) -> LoraConfig | None:
        """The adapter if it changes layers, which can be merged into their weights."""
        return None if self.virtual_tokens else self.lora

    @property
    def virtual_tokens(self) -> int:
        """The number of learned embeddings before each prompt, 0 without prompt tuning."""
        return self.lora.virtual_tokens if self.lora is not None and self.lora.kind == "prompt" else 0


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """What the language model reads besides the visual tokens.

    Args:
        system: The system message.
        tags: The largest number of concept tags of a segment.
        tag_threshold: The smallest probability of a tag.
        context: The largest number of tokens of prompt and answer. Segments are merged to fit.
        max_new_tokens: The number of tokens that are reserved for the answer.
        layout: "chat" is the language model's own chat template, with the times of each segment before its tokens. The
            others are the texts of published systems, see `videollm.models.layouts`.
    """

    system: str = "Answer from the video."
    tags: int = 3
    tag_threshold: float = 0.2
    context: int = 8192
    max_new_tokens: int = 96
    layout: PromptLayoutName = "chat"

    def __post_init__(self) -> None:
        check_choice("prompt layout", self.layout, PromptLayoutName)
        check_positive(context=self.context, max_new_tokens=self.max_new_tokens)
        check(self.tags >= 0, f"tags is {self.tags}; it must be 0 or above")
        check(0 <= self.tag_threshold <= 1, f"tag_threshold is {self.tag_threshold}; it must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that is needed to build one model. `videollm.presets` has complete configurations with names."""

    name: str
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(fps=2.0))
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    outputs: OutputConfig = field(default_factory=OutputConfig)
    llm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    senses: tuple[str, ...] = ()  # see `split_sense`

    def __post_init__(self) -> None:
        for sense in self.senses:
            split_sense(sense)
        size = 0 if self.temporal.tower is None else self.temporal.tower.image_size
        check(
            self.encoder.pixels == size,
            f"the encoder's pixels is {self.encoder.pixels}, but the temporal module "
            + (f"has a tower for {size}" if size else "has no tower that reads pixels"),
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Builds a configuration from nested plain values, as `json.load` returns them. Unknown names are errors
        that list them."""
        return _build(cls, values, "config")

    @property
    def sha(self) -> str:
        """12 hex digits that change with any value."""
        return hashlib.sha256(json.dumps(_without_later(self.to_dict()), sort_keys=True).encode()).hexdigest()[:12]


# Fields that were added later, and their defaults. At these they are left out of the hash, so that a model keeps the
# hash that its saved sessions name.
_LATER = {"senses": (), "class_token": False, "pixels": 0, "words": 0, "positions": 512, "instruction": ()}
_LATER |= {"kind": "lora", "virtual_tokens": 20}
_LATER |= {"stem": "none", "tower": None, "near_keyframes": False, "audio": dataclasses.asdict(AudioConfig())}
_LATER |= {"outputs": dataclasses.asdict(OutputConfig())}


def _without_later(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}
    return {name: _without_later(value) if isinstance(value, dict) else value for name, value in kept.items()}


_NESTED: dict[str, Any] = {
    "sampling": SamplingConfig,
    "segments": SegmentConfig,
    "encoder": EncoderConfig,
    "temporal": TemporalConfig,
    "llm": LanguageModelConfig,
    "prompt": PromptConfig,
    "lora": LoraConfig,
    "tower": TowerConfig,
    "audio": AudioConfig,
    "outputs": OutputConfig,
}


def _with_kind(adapter: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of an adapter that was written before `kind` took the place of `dora`."""
    if "dora" not in adapter:
        return adapter
    kept = {name: value for name, value in adapter.items() if name != "dora"}
    return kept | {"kind": "dora" if adapter["dora"] else "lora"}


def _build(cls: Any, values: dict[str, Any], where: str) -> Any:
    if cls is LoraConfig:
        values = _with_kind(values)
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    check(not unknown, f"{where} has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    built: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            value = _build(_NESTED[name], value, f"{where}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return cls(**built)
