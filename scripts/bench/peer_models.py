"""What the benchmarks compare with: plain use of PyAV and decord, and three video models of transformers."""

from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from transformers import (
    CLIPVisionConfig,
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    InstructBlipVideoQFormerConfig,
    InstructBlipVideoVisionConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    PretrainedConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)

from videollm.config import TemporalConfig
from videollm.encoders.images import resize_crop


def decode_sequentially(path: str, frames: int, short_side: int) -> list[np.ndarray]:
    """Decode every frame and keep the nearest to the middle of each of `frames` equal parts."""
    kept: list[np.ndarray] = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        scale = short_side / min(stream.width, stream.height)
        width, height = round(stream.width * scale), round(stream.height * scale)
        part = (container.duration or 0) / frames
        targets = [((container.start_time or 0) + (i + 0.5) * part) / av.time_base for i in range(frames)]

        def keep(frame: av.VideoFrame) -> None:
            image = frame.reformat(width, height, "rgb24", interpolation=Interpolation.BICUBIC)
            kept.append(image.to_ndarray())

        last: av.VideoFrame | None = None
        for frame in container.decode(stream):
            last = last or frame
            while len(kept) < frames and frame.time >= targets[len(kept)]:
                middle = (last.time + frame.time) / 2
                keep(frame if targets[len(kept)] >= middle else last)
            last = frame
        while last and len(kept) < frames:
            keep(last)
    return kept


def decode_with_decord(path: str, frames: int, short_side: int) -> np.ndarray:
    """Return frames (T,H,W,3) at equal distances by frame number. decord has no other way, so variable rates are
    off."""
    import decord

    height, width = decord.VideoReader(path)[0].shape[:2]
    scale = short_side / min(width, height)
    reader = decord.VideoReader(path, width=round(width * scale), height=round(height * scale))
    numbers = ((np.arange(frames) + 0.5) / frames * len(reader)).astype(int)
    return reader.get_batch(numbers).asnumpy()


class _Clock(StoppingCriteria):
    """A criterion that never stops generation and records when the first token arrived."""

    first: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        self.first = self.first or perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tower:
    """Sizes of a vision transformer."""

    width: int
    layers: int
    heads: int
    image_size: int
    patch_size: int

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def flops(self) -> float:
        """Operations for one frame: patch embedding, then blocks of attention and an MLP of four times the width."""
        tokens = self.patches + 1
        block = 24 * tokens * self.width**2 + 4 * tokens**2 * self.width
        return 2 * self.patches * 3 * self.patch_size**2 * self.width + self.layers * block

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes under the names of transformers' configurations."""
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
        }


class Peer:
    """A published model at given sizes, with random weights.

    A subclass builds `model`, names in `trained` the parts that its first stage of training trains, and computes how
    many visual tokens a number of frames becomes. `text` is the configuration of the language model; `question_ids` are
    the ids of the question with the chat template around it.
    """

    name: ClassVar[str]
    trained: ClassVar[tuple[str, ...]]
    pixels: ClassVar[str] = "pixel_values_videos"  # the argument of forward
    model: Any

    def __init__(
        self,
        tower: Tower,
        temporal: TemporalConfig,
        text: PretrainedConfig,
        question_ids: list[int],
        dtype: torch.dtype,
    ):
        self.placeholder = text.vocab_size - 1
        self.image_size = tower.image_size
        self.question = torch.tensor([question_ids])
        self.build(tower, temporal, deepcopy(text))
        self.model.eval().to(dtype)

    def build(self, tower: Tower, temporal: TemporalConfig, text: PretrainedConfig) -> None:
        raise NotImplementedError

    def visual_tokens(self, frames: int) -> int:
        raise NotImplementedError

    def inputs(self, clips: torch.Tensor, after: torch.Tensor) -> dict[str, torch.Tensor]:
        """Arguments of forward for decoded frames, uint8 (B,T,3,H,W), and the tokens (B,n) after the visual ones."""
        # its own processor also scales each channel to unit variance
        images = (resize_crop(clips.flatten(0, 1), self.image_size) / 127.5 - 1).to(self.model.dtype)
        visual = torch.full((len(clips), self.visual_tokens(clips.shape[1])), self.placeholder)
        return {self.pixels: images.unflatten(0, clips.shape[:2]), "input_ids": torch.cat((visual, after), 1)}

    def answer(self, pixels: torch.Tensor, tokens: int) -> tuple[float, float]:
        """Seconds from decoded frames, uint8 (T,3,H,W), to the first and to the last of `tokens` greedy tokens."""
        started, clock = perf_counter(), _Clock()
        self.model.generate(
            **self.inputs(pixels[None], self.question),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        assert clock.first is not None  # at least one token was asked for
        return clock.first - started, perf_counter() - started

    def parameters(self) -> list[torch.nn.Parameter]:
        """Freeze the model except for the trained parts, and return their parameters."""
        self.model.requires_grad_(False)
        found = [p for name, p in self.model.named_parameters() if any(part in name for part in self.trained)]
        return [p.requires_grad_(True) for p in found]

    def loss(self, clips: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Loss of `answers` (B,n) to the question about `clips`, uint8 (B,T,3,H,W)."""
        after = torch.cat((self.question.expand(len(clips), -1), answers), 1)
        inputs = self.inputs(clips, after)
        labels = inputs["input_ids"].clone()
        labels[:, : -answers.shape[1]] = -100
        return self.model(**inputs, labels=labels).loss


class InstructBlip(Peer):
    """InstructBlipVideo (Dai et al. 2023): each frame becomes `temporal.queries` visual tokens."""

    name = "InstructBlipVideo"
    trained = ("qformer", "query_tokens", "language_projection")
    pixels = "pixel_values"

    def build(self, tower: Tower, temporal: TemporalConfig, text: PretrainedConfig) -> None:
        qformer = InstructBlipVideoQFormerConfig(
            hidden_size=temporal.width,
            num_hidden_layers=temporal.layers,
            num_attention_heads=temporal.heads,
            intermediate_size=temporal.mlp_ratio * temporal.width,
            cross_attention_frequency=temporal.cross_attention_every,
        )
        self.queries, self.words = temporal.queries, qformer.vocab_size
        config = InstructBlipVideoConfig(
            vision_config=InstructBlipVideoVisionConfig(**tower.sizes, initializer_range=0.02),
            qformer_config=qformer,
            text_config=text,
            num_query_tokens=self.queries,
            video_token_index=self.placeholder,
        )
        self.model = InstructBlipVideoForConditionalGeneration(config)

    def visual_tokens(self, frames: int) -> int:
        return frames * self.queries

    def inputs(self, clips: torch.Tensor, after: torch.Tensor) -> dict[str, torch.Tensor]:
        """The inputs of `Peer` and the question's ids for the Q-Former, which has a (BERT) vocabulary of its own."""
        question = (self.question % self.words).expand(len(clips), -1)
        return {**super().inputs(clips, after), "qformer_input_ids": question}


class VideoLlava(Peer):
    """Video-LLaVA (Lin et al. 2023): each patch of each frame, and each frame's class token, is a visual token."""

    name = "VideoLlava"
    trained = ("multi_modal_projector",)

    def build(self, tower: Tower, temporal: TemporalConfig, text: PretrainedConfig) -> None:
        self.each = tower.patches + 1
        config = VideoLlavaConfig(
            vision_config=CLIPVisionConfig(**tower.sizes),
            text_config=text,
            image_token_index=self.placeholder - 1,
            video_token_index=self.placeholder,
            tie_word_embeddings=True,
        )
        self.model = VideoLlavaForConditionalGeneration(config)

    def visual_tokens(self, frames: int) -> int:
        return frames * self.each


class LlavaNext(Peer):
    """LLaVA-NeXT-Video (Zhang et al. 2024): patches are averaged two by two."""

    name = "LlavaNextVideo"
    trained = ("multi_modal_projector",)

    def build(self, tower: Tower, temporal: TemporalConfig, text: PretrainedConfig) -> None:
        self.each = (tower.image_size // tower.patch_size // 2) ** 2
        config = LlavaNextVideoConfig(
            vision_config=CLIPVisionConfig(**tower.sizes),
            text_config=text,
            image_token_index=self.placeholder - 1,
            video_token_index=self.placeholder,
            tie_word_embeddings=True,
        )
        self.model = LlavaNextVideoForConditionalGeneration(config)

    def visual_tokens(self, frames: int) -> int:
        return frames * self.each


PEERS: tuple[type[Peer], ...] = (InstructBlip, VideoLlava, LlavaNext)
