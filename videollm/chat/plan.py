"""What running a model on a video will take, before anything heavy runs: no weight is loaded, no frame decoded."""

import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from videollm.checkpoint import config_of
from videollm.config import EncoderConfig, ModelConfig, SamplingConfig
from videollm.device import resolve_dtype
from videollm.errors import ConfigError
from videollm.models.language import debug_language_model, resolve_source
from videollm.video import pyav
from videollm.video.sampling import select

TIME_TOKENS = 12  # "[0:04-0:08]" and the line break
TAG_TOKENS = 7  # "coral reef 62%,"
QUESTION_TOKENS = 40  # system prompt, template and a short question
LITE_FLOPS = 0.8e9  # a frame, Tan & Le 2019
DEPTHWISE = 0.15  # share of matrix speed that depthwise convolutions reach on CPU, measured
DECODED_FRAMES_A_SECOND = 400  # 720p H.264 on two cores, measured; every frame on the way counts, wanted or not


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Estimates. Memory in MB, time in seconds on this machine; `fits` is false where segments will be merged."""

    model: str
    duration_s: float
    frames: int
    segments: int
    visual_tokens: int
    prompt_tokens: int
    context: int
    fits: bool
    memory_mb: dict[str, float]
    latency_s: dict[str, float]

    def __str__(self) -> str:
        memory = ", ".join(f"{k} {v:.0f}" for k, v in self.memory_mb.items())
        latency = ", ".join(f"{k} {v:.2f}" for k, v in self.latency_s.items())
        merged = "" if self.fits else " (segments will be merged to fit)"
        return (
            f"model    {self.model}\nvideo    {self.duration_s:.1f} s\n"
            f"frames   {self.frames} in {self.segments} segments or more\n"
            f"tokens   {self.visual_tokens} visual, {self.prompt_tokens} in all, context {self.context}{merged}\n"
            f"memory   {memory} MB\ntime     {latency} s (estimated)"
        )


def make_plan(video: str | Path, model: str = "lite", sampling: SamplingConfig | None = None) -> Plan:
    """Estimate frames, tokens, memory and latency. Raises the `VideoError` family and ConfigError."""
    config, scan = config_of(model), pyav.scan(video)
    info, sampling = scan.info, sampling or config.sampling
    frames = len(select(info, scan.times_s, scan.is_key, sampling))
    segments = math.ceil(frames / config.segments.frames)
    per_segment = config.temporal.queries + TIME_TOKENS + TAG_TOKENS * config.prompt.tags
    wanted = QUESTION_TOKENS + segments * per_segment
    room = config.prompt.context - config.prompt.max_new_tokens
    tokens = min(wanted, room)

    llm = _skeleton(config)
    dtype = resolve_dtype(config.llm.dtype, torch.device("cpu"))
    width = 0.5 if config.llm.load_in_4bit else dtype.itemsize
    weights = llm.num_parameters()
    text = llm.config.get_text_config()
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    kv = 2 * text.num_hidden_layers * kv_heads * (text.hidden_size // text.num_attention_heads) * dtype.itemsize

    speed = matrix_speed(dtype)
    encode_flops, encoder_weights = encoder_cost(config.encoder)
    start = sampling.start_s or 0.0
    seconds = (sampling.end_s or info.duration_s) - start
    return Plan(
        model=config.name,
        duration_s=info.duration_s,
        frames=frames,
        segments=segments,
        visual_tokens=min(segments, room // per_segment) * config.temporal.queries,
        prompt_tokens=tokens,
        context=config.prompt.context,
        fits=wanted <= room,
        memory_mb={
            "language model": weights * width / 1e6,
            "encoder": encoder_weights * 4 / 1e6,
            "keys and values": kv * (tokens + config.prompt.max_new_tokens) / 1e6,
        },
        latency_s={
            "decode": seconds * info.fps / DECODED_FRAMES_A_SECOND * info.width * info.height / (1280 * 720),
            "encode": frames * encode_flops / speed,
            "first token": 2 * weights * tokens / speed,
        },
    )


def matrix_speed(dtype: torch.dtype, size: int = 768, seconds: float = 0.1) -> float:
    """Floating-point operations a second of a matrix product here and now."""
    a = torch.randn(size, size).to(dtype)
    torch.mm(a, a)
    started, runs = perf_counter(), 0
    while (spent := perf_counter() - started) < seconds:
        torch.mm(a, a)
        runs += 1
    return 2 * size**3 * runs / spent


def encoder_cost(config: EncoderConfig) -> tuple[float, float]:
    """Matrix-speed operations a frame, and parameters."""
    if config.kind == "lite":
        return LITE_FLOPS / DEPTHWISE, 27e6  # with the sentence encoder
    if config.kind == "debug":
        return 1e6, 1e4
    import open_clip

    architecture = open_clip.get_model_config(config.name)
    if architecture is None:
        raise ConfigError(f"open_clip has no architecture {config.name!r}")
    vision = architecture["vision_cfg"]
    layers, width, size, patch = vision["layers"], vision["width"], vision["image_size"], vision["patch_size"]
    tokens = (size // patch) ** 2 + 1
    parameters = 12 * layers * width**2
    embedding = 2 * (tokens - 1) * 3 * patch**2 * width
    return (
        2 * parameters * tokens + 4 * layers * tokens**2 * width + embedding,
        1.6 * parameters,
    )  # the text tower beside it


def _skeleton(config: ModelConfig) -> PreTrainedModel:
    """The language model without its weights."""
    if config.llm.source == "debug":
        return debug_language_model()
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(resolve_source(config.llm), revision=config.llm.revision)
        )
