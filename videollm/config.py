"""Configurations, as frozen, keyword-only dataclasses that check their values.

All numbers that change a result are here, so that `config.json` beside a checkpoint has all of them. Variants are made
with `dataclasses.replace`. Complete configurations with names are in `presets.py`.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from videollm.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EncoderKind = Literal["lite", "open_clip", "debug"]
TemporalKind = Literal["qformer", "pool", "concat", "merge", "video_llama", "video_chatgpt"]
Decoder = Literal["pyav", "decord"]
SamplingRule = Literal["middle", "video_llama", "video_chatgpt", "videochat2"]
Resize = Literal["trained", "squash", "nearest"]
PromptLayoutName = Literal["chat", "video_llama", "video_chatgpt"]
SenseName = Literal["speech", "objects", "text", "faces", "sounds"]
OWN_WEIGHTS = ("speech", "sounds")  # senses that take the weights of a directory


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def split_sense(sense: str) -> tuple[SenseName, str]:
    """Returns the name of a sense and the directory of its weights, "" for those that come with the project.

    `sense` is a name such as "speech", or a name with a directory, as in "speech=runs/my-whisper". Raises ConfigError.
    """
    name, _, directory = sense.partition("=")
    _check_choice("sense", name, SenseName)
    _check(not directory or name in OWN_WEIGHTS, f"{sense!r} names a directory; only {', '.join(OWN_WEIGHTS)} take one")
    _check(
        bool(directory) or name != "sounds",
        "the sense 'sounds' needs the directory of an audio classifier of transformers, as in sounds=DIRECTORY",
    )
    _check("," not in directory, f"{directory!r} has a comma, which separates senses; rename the directory")
    return cast(SenseName, name), directory


def _check_choice(name: str, value: str, choices: Any) -> None:
    _check(value in get_args(choices), f"{name} is {value!r}; choose one of {', '.join(get_args(choices))}")


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        _check(value is None or 0 < value < math.inf, f"{name} is {value}; it must be a number above 0")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which frames of a video to use. Exactly one of `frames`, `fps`, `times_s` and `keyframes` must be set.

    Args:
        frames: So many frames, at the middles of equal parts of the range.
        fps: One frame every 1/fps seconds. If that gives more than `max_frames`, so many are spread evenly over the
            range.
        times_s: The frames that are shown at these times, in seconds from the first frame.
        keyframes: All key frames of the file, which are the fastest to decode, evenly thinned to at most `max_frames`.
        max_frames: The largest number of frames with `fps` or `keyframes`. None sets no limit.
        start_s, end_s: The part of the video in seconds. None means its start and its end.
        rule: How `frames` are chosen. "middle" chooses by time, as above. The others count frames, as the published
            system with this name does (see `videollm.video.rules`), so that its answers come from the frames that it
            was trained on.
        decoder: The decoder. "decord" needs the extra with this name. Its pixels differ slightly from PyAV's because it
            scales frames differently, so that features are cached separately for each decoder.

    Raises:
        ConfigError: If a value is out of range, or values contradict each other.
    """

    frames: int | None = None
    fps: float | None = None
    times_s: tuple[float, ...] | None = None
    keyframes: bool = False
    max_frames: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    rule: SamplingRule = "middle"
    decoder: Decoder = "pyav"

    def __post_init__(self) -> None:
        _check_choice("decoder", self.decoder, Decoder)
        _check_choice("sampling rule", self.rule, SamplingRule)
        _check(self.rule == "middle" or self.frames is not None, f"the rule {self.rule!r} needs `frames`; set it")
        chosen = [self.frames is not None, self.fps is not None, self.times_s is not None, self.keyframes]
        _check(sum(chosen) == 1, f"set exactly one of frames, fps, times_s, keyframes; got {self}")
        _check_positive(frames=self.frames, fps=self.fps, max_frames=self.max_frames, end_s=self.end_s)
        _check(self.times_s is None or len(self.times_s) > 0, "times_s is empty; give at least one time")
        _check(all(math.isfinite(t) for t in self.times_s or ()), f"times_s has {self.times_s}; each is a number")
        _check(
            self.start_s is None or 0 <= self.start_s < math.inf, f"start_s is {self.start_s}; it must be 0 or above"
        )
        if self.start_s is not None and self.end_s is not None:
            _check(self.end_s > self.start_s, f"end_s {self.end_s} must be above start_s {self.start_s}")


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
        _check(self.by in ("time", "scene"), f"segments are by {self.by!r}; choose time or scene")
        _check_positive(frames=self.frames)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The frozen frame encoder.

    Args:
        kind: The kind of encoder.
        name, pretrained: The architecture and the tag of open_clip, or `local-dir:FOLDER`.
        dtype: The dtype of the weights.
        layer: The ViT layer whose outputs are the patch tokens. -1 is the last, and -2 the one before, which LLaVA
            uses.
        resize: How frames are resized. "trained": as in the training of the encoder, mostly the short side to its size
            and a crop of the centre. "squash": both sides, bicubic, so that nothing is cut off and shapes change
            (Video-LLaMA). "nearest": the same without interpolation (Video-ChatGPT).
    """

    kind: EncoderKind = "lite"
    name: str = "efficientnet_lite0"
    pretrained: str = ""
    dtype: Dtype = "auto"
    layer: int = -1
    resize: Resize = "trained"

    def __post_init__(self) -> None:
        _check_choice("encoder kind", self.kind, EncoderKind)
        _check_choice("encoder dtype", self.dtype, Dtype)
        _check_choice("resize", self.resize, Resize)
        _check(
            self.resize == "trained" or self.kind == "open_clip", f"resize {self.resize!r} needs an open_clip encoder"
        )


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """The module that turns the frame tokens (T,N,D) of one segment into `queries` tokens (Q,H).

    Args:
        kind: The kind of module.
        queries: Q, the number of tokens of a segment.
        width, layers, heads, mlp_ratio, dropout: Sizes of the Q-Former.
        cross_attention_every: 1 gives every layer cross-attention (Video-LLaMA), and 2 every second layer from the
            first (BLIP-2).
        frame_queries, frame_layers: Sizes of the Q-Former that reads each frame (kind "video_llama").
        max_frames: The largest number of frames of a segment (kinds "video_llama" and "video_chatgpt").
        output_norm: Whether tokens are scaled to the size of word embeddings. The published systems do not do this.
    """

    kind: TemporalKind = "qformer"
    queries: int = 8
    width: int = 384
    layers: int = 2
    heads: int = 6
    mlp_ratio: int = 4
    cross_attention_every: int = 1
    dropout: float = 0.0
    frame_queries: int = 32
    frame_layers: int = 12
    max_frames: int = 32
    output_norm: bool = True

    def __post_init__(self) -> None:
        _check_positive(frame_queries=self.frame_queries, frame_layers=self.frame_layers, max_frames=self.max_frames)
        _check_choice("temporal kind", self.kind, TemporalKind)
        _check_positive(queries=self.queries, width=self.width, layers=self.layers, heads=self.heads)
        _check_positive(mlp_ratio=self.mlp_ratio, cross_attention_every=self.cross_attention_every)
        _check(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must be 0 or above and below 1")
        _check(self.width % self.heads == 0, f"width {self.width} must be a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on the linear layers of the language model (PEFT).

    Args:
        r: The rank.
        alpha: The scale. The adapter's output is multiplied by alpha / r.
        dropout: The probability of dropout in training.
        targets: Names of the adapted layers, or "all-linear".
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        _check_positive(r=self.r, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Any causal language model with a chat template.

    Args:
        source: `asset:NAME` (weights from a package), a directory, a hub id, `own:FOLDER` (of the checkpoint
            directory), or `debug` (random and tiny).
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
        _check_choice("language model dtype", self.dtype, Dtype)


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
        _check_choice("prompt layout", self.layout, PromptLayoutName)
        _check_positive(context=self.context, max_new_tokens=self.max_new_tokens)
        _check(self.tags >= 0, f"tags is {self.tags}; it must be 0 or above")
        _check(0 <= self.tag_threshold <= 1, f"tag_threshold is {self.tag_threshold}; it must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that is needed to build one model. `videollm.presets` has complete configurations with names."""

    name: str
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(fps=2.0))
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    llm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    senses: tuple[str, ...] = ()  # see `split_sense`

    def __post_init__(self) -> None:
        for sense in self.senses:
            split_sense(sense)

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
        values = self.to_dict()
        if not self.senses:
            del values["senses"]  # so that models without senses keep the hash that their saved sessions name
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


_NESTED: dict[str, Any] = {
    "sampling": SamplingConfig,
    "segments": SegmentConfig,
    "encoder": EncoderConfig,
    "temporal": TemporalConfig,
    "llm": LanguageModelConfig,
    "prompt": PromptConfig,
    "lora": LoraConfig,
}


def _build(cls: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    _check(not unknown, f"{where} has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    built: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            value = _build(_NESTED[name], value, f"{where}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return cls(**built)
