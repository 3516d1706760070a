"""Estimates of what running a model on a video takes, made without loading weights or decoding frames."""

import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)

from videollm.audio_config import AudioConfig
from videollm.config import EncoderConfig, ModelConfig, SamplingConfig, TowerConfig
from videollm.datasets.schema import Message
from videollm.device import resolve_device, resolve_dtype, total_memory, wait_for
from videollm.errors import ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.model import AUDIO, config_of, find
from videollm.models.audio import build_audio
from videollm.models.hub import load as hub
from videollm.models.language import debug_language_model, reachable, resolve_source
from videollm.models.tower import tower_tokens
from videollm.video import pyav
from videollm.video.frames import VideoInfo
from videollm.video.sampling import select

TIME_TOKENS = 12  # "[0:04-0:08]" and the line break
TAG_TOKENS = 7  # "coral reef 62%,"
QUESTION_TOKENS = 40  # system prompt, template and a short question
LITE_FLOPS = 0.8e9  # operations per frame of EfficientNet-Lite0; Tan & Le 2019
DEPTHWISE = 0.15  # share of matrix speed that depthwise convolutions reach on a CPU, measured
DECODED_FRAMES_A_SECOND = 400  # 720p H.264 on two cores, measured; frames between the sampled ones are decoded too


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Estimates for one video and one question.

    Attributes:
        model: The name of the model.
        device: The device that the model would run on.
        duration_s: The duration of the video in seconds.
        frames: The number of frames that are sampled.
        segments: The smallest number of segments. Cuts between scenes may add some.
        visual_tokens, prompt_tokens: Numbers of tokens of the prompt.
        audio_tokens: The largest number of tokens of the prompt that stand for sound, None if the model hears nothing
            in it.
        context: The largest number of tokens of prompt and answer.
        fits: Whether the prompt fits the context. If it does not, segments are merged.
        memory_mb: The memory that is needed on `device`, in MB.
        device_memory_mb: The memory that `device` has, in MB.
        latency_s: Times in seconds on this machine. Decoding always runs on the CPU.
    """

    model: str
    device: str
    duration_s: float
    frames: int
    segments: int
    visual_tokens: int
    audio_tokens: int | None
    prompt_tokens: int
    context: int
    fits: bool
    memory_mb: dict[str, float]
    device_memory_mb: float
    latency_s: dict[str, float]

    def __str__(self) -> str:
        memory = ", ".join(f"{k} {v:.0f}" for k, v in self.memory_mb.items())
        latency = ", ".join(f"{k} {v:.2f}" for k, v in self.latency_s.items())
        needed = sum(self.memory_mb.values())
        short = " (too little)" if needed > self.device_memory_mb else ""
        merged = "" if self.fits else " (segments will be merged to fit)"
        tokens = f"{self.visual_tokens} visual"
        if self.audio_tokens is not None:
            tokens += f", {self.audio_tokens} audio"
        return (
            f"model    {self.model} on {self.device}\nvideo    {self.duration_s:.1f} s\n"
            f"frames   {self.frames} in {self.segments} segments or more\n"
            f"tokens   {tokens}, {self.prompt_tokens} in all, context {self.context}{merged}\n"
            f"memory   {memory}; {needed:.0f} of {self.device_memory_mb:.0f} MB{short}\n"
            f"time     {latency} s (estimated)"
        )


def make_plan(
    video: str | Path,
    model: str = "lite",
    sampling: SamplingConfig | None = None,
    device: str | torch.device | None = None,
) -> Plan:
    """Estimates frames, tokens, memory and latency of one question about a video.

    Args:
        video: The path of the video. Only its headers and packets are read.
        model: A preset, a checkpoint directory or a hub id.
        sampling: Which frames to use. None takes the sampling of the model, bounded for long videos.
        device: The device of the model, see `resolve_device`.

    Raises:
        VideoError: If the file cannot be used.
        ConfigError: If the model or the device is unknown.
        CheckpointError: If the configuration of the model cannot be read.
    """
    device, config, scan = resolve_device(device), config_of(model), pyav.scan(video)
    info, sampling = scan.info, sampling or config.sampling.bounded()
    frames = len(select(info, scan.times_s, scan.is_key, sampling))
    segments = math.ceil(frames / config.segments.frames)
    directory = find(model) if config.llm.source == hub.ITS_OWN else None
    room = config.prompt.context - config.prompt.max_new_tokens
    hears = config.audio.kind != "none" and info.has_audio
    heard = 0
    if directory is not None:
        wanted_visual = _hub_tokens(directory, config, info, frames)
        wanted = QUESTION_TOKENS + wanted_visual
        visual = min(wanted_visual, room - QUESTION_TOKENS)
    else:
        per_segment = config.temporal.queries + TIME_TOKENS + TAG_TOKENS * config.prompt.tags
        heard = min(segments, config.audio.clips) if hears else 0  # segments in which a clip of audio begins
        wanted = QUESTION_TOKENS + segments * per_segment + heard * config.audio.queries
        visual = min(segments, room // per_segment) * config.temporal.queries
    tokens = min(wanted, room)

    llm = _skeleton(config) if directory is None else _hub_skeleton(directory)
    dtype, encoder_dtype = (resolve_dtype(part.dtype, device) for part in (config.llm, config.encoder))
    width = 0.5 if config.llm.load_in_4bit else dtype.itemsize
    weights = llm.num_parameters()

    speed = matrix_speed(dtype, device)
    encode_flops, encoder_weights = encoder_cost(config.encoder)
    if config.temporal.tower is not None:
        tower_flops, tower_weights = tower_cost(config.temporal.tower, min(frames, config.segments.frames))
        encode_flops, encoder_weights = encode_flops + tower_flops, encoder_weights + tower_weights
    memory_mb = {
        "language model": weights * width / 1e6,
        "encoder": encoder_weights * encoder_dtype.itemsize / 1e6,
        "keys and values": kv_bytes(llm.config, dtype) * (tokens + config.prompt.max_new_tokens) / 1e6,
    }
    if config.audio.kind != "none":
        folder = (find(model) or Path(config.name)) / AUDIO
        memory_mb["audio"] = audio_bytes(folder, config.audio, llm.config.get_text_config().hidden_size) / 1e6
    start = sampling.start_s or 0.0
    seconds = (sampling.end_s or info.duration_s) - start
    return Plan(
        model=config.name,
        device=str(device),
        duration_s=info.duration_s,
        frames=frames,
        segments=segments,
        visual_tokens=visual,
        audio_tokens=heard * config.audio.queries if hears else None,
        prompt_tokens=tokens,
        context=config.prompt.context,
        fits=wanted <= room,
        memory_mb=memory_mb,
        device_memory_mb=total_memory(device) / 1e6,
        latency_s={
            "decode": seconds * info.fps / DECODED_FRAMES_A_SECOND * info.width * info.height / (1280 * 720),
            "encode": frames * encode_flops / speed,
            "first token": 2 * weights * tokens / speed,
        },
    )


def kv_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Returns the size of one token's keys and values in all layers, in bytes."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    # Heads may be wider than their share of the hidden width: 128 and not 64 in Qwen3-0.6B.
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * dtype.itemsize


def matrix_speed(dtype: torch.dtype, device: torch.device, size: int | None = None, seconds: float = 0.1) -> float:
    """Measures the speed of a product of square matrices, in floating-point operations per second.

    Args:
        dtype: The dtype of the matrices.
        device: The device to measure.
        size: The width of the matrices. None takes a size that keeps the device busy.
        seconds: The time to measure for.
    """
    if size is None:
        size = 768 if device.type == "cpu" else 4096  # large enough to keep a GPU busy
    a = torch.randn(size, size, device=device).to(dtype)
    torch.mm(a, a)  # the first product also loads kernels
    wait_for(device)
    started, runs = perf_counter(), 0
    while (spent := perf_counter() - started) < seconds:
        torch.mm(a, a)
        wait_for(device)
        runs += 1
    return 2 * size**3 * runs / spent


def encoder_cost(config: EncoderConfig) -> tuple[float, float]:
    """Returns the number of operations per frame, at the speed of matrix products, and the number of parameters.

    The numbers for open_clip follow from the sizes of its architecture. Raises ConfigError if open_clip does not know
    it.
    """
    if config.kind == "lite":
        return LITE_FLOPS / DEPTHWISE, 27e6  # parameters with those of the sentence encoder
    if config.kind == "debug":
        return 1e6, 1e4
    import open_clip

    architecture = open_clip.get_model_config(config.name)  # sizes only; no weights are loaded
    if architecture is None:
        raise ConfigError(
            f"open_clip has no architecture {config.name!r}; open_clip.list_models() returns those that it has"
        )
    vision = architecture["vision_cfg"]
    layers, width, size, patch = vision["layers"], vision["width"], vision["image_size"], vision["patch_size"]
    tokens = (size // patch) ** 2 + 1  # with the class token
    parameters = 12 * layers * width**2  # a block has 4 width² in its attention and 8 width² in its MLP
    flops = _vit_flops(parameters, layers, width, patch, tokens, tokens)
    return flops, 1.6 * parameters  # the text tower has about 0.6 times as many


def tower_cost(tower: TowerConfig, frames: int) -> tuple[float, float]:
    """Returns the number of operations per frame and the number of parameters of a temporal module's own tower.

    frames: the number of frames of a segment, which "umt" reads together.
    """
    tokens = tower_tokens(tower)
    parameters = tower.layers * tower.width * (4 * tower.width + 2 * tower.mlp_width)
    attended = tokens * frames if tower.kind == "umt" else tokens
    return _vit_flops(parameters, tower.layers, tower.width, tower.patch, tokens, attended), parameters


def audio_bytes(folder: Path, config: AudioConfig, width: int) -> int:
    """Returns the size of an audio branch whose encoder has its weights in this folder.

    width: the width of the language model.
    """
    with torch.device("meta"):
        branch = build_audio(config, width)
    own = [p.numel() * p.itemsize for p in branch.parameters()] if branch else []
    return sum(own) + sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _vit_flops(parameters: int, layers: int, width: int, patch: int, tokens: int, attended: int) -> float:
    """Returns the number of operations of a frame's `tokens`, each of which attends to `attended` tokens."""
    return 2 * parameters * tokens + 4 * layers * tokens * attended * width + 6 * tokens * patch**2 * width


def _skeleton(config: ModelConfig) -> PreTrainedModel:
    """Returns the language model on the meta device, which gives its sizes without its weights."""
    if config.llm.source == "debug":
        return debug_language_model()
    source = resolve_source(config.llm)
    with reachable(source):
        found = AutoConfig.from_pretrained(source, revision=config.llm.revision, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(found, trust_remote_code=False)


def _hub_skeleton(directory: Path) -> PreTrainedModel:
    """Returns a video model of transformers on the meta device."""
    found = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(getattr(found, "thinker_config", found), trust_remote_code=False)


def _hub_tokens(directory: Path, config: ModelConfig, info: VideoInfo, frames: int) -> int:
    """Returns how many tokens the model's own processor makes of so many frames, which are black here."""
    scale = hub.family_of(directory).short_side / min(info.width, info.height)
    pixels = torch.zeros(frames, 3, round(info.height * scale), round(info.width * scale), dtype=torch.uint8)
    times_s = torch.linspace(0, info.duration_s, frames)
    shown = SegmentFeatures(0, info.duration_s, pixels, times_s, torch.zeros(0), ())
    prompt = hub.load_processor(directory, config)([Message("user", "")], [shown])
    return prompt.visual_tokens
