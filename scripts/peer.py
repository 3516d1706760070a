"""What `bench_chat.py` compares with: plain use of PyAV, and transformers' InstructBlipVideo (Dai et al. 2023)."""

from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from transformers import (
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    InstructBlipVideoQFormerConfig,
    InstructBlipVideoVisionConfig,
    PretrainedConfig,
    StoppingCriteria,
    StoppingCriteriaList,
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


class _Clock(StoppingCriteria):
    """Never stops; notes when the first token was there."""

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
    def flops(self) -> float:
        """Of one frame: patch embedding, then blocks with a fourfold MLP and attention."""
        patches = (self.image_size // self.patch_size) ** 2
        tokens = patches + 1
        block = 24 * tokens * self.width**2 + 4 * tokens**2 * self.width
        return 2 * patches * 3 * self.patch_size**2 * self.width + self.layers * block


class Peer:
    """InstructBlipVideo at given sizes, with random weights: each frame becomes `temporal.queries` visual tokens.

    text: sizes of the language model. question_ids: template included.
    """

    def __init__(
        self,
        tower: Tower,
        temporal: TemporalConfig,
        text: PretrainedConfig,
        question_ids: list[int],
        dtype: torch.dtype,
    ):
        qformer = InstructBlipVideoQFormerConfig(
            hidden_size=temporal.width,
            num_hidden_layers=temporal.layers,
            num_attention_heads=temporal.heads,
            intermediate_size=temporal.mlp_ratio * temporal.width,
            cross_attention_frequency=temporal.cross_attention_every,
        )
        self.placeholder = text.vocab_size - 1
        self.image_size = tower.image_size
        self.queries = temporal.queries
        self.question = torch.tensor([question_ids])
        self.instruction = self.question % qformer.vocab_size  # its Q-Former reads the question too, in BERT's words
        vision = InstructBlipVideoVisionConfig(
            hidden_size=tower.width,
            intermediate_size=4 * tower.width,
            num_hidden_layers=tower.layers,
            num_attention_heads=tower.heads,
            image_size=tower.image_size,
            patch_size=tower.patch_size,
            initializer_range=0.02,
        )
        config = InstructBlipVideoConfig(
            vision_config=vision,
            qformer_config=qformer,
            text_config=deepcopy(text),
            num_query_tokens=self.queries,
            video_token_index=self.placeholder,
        )
        self.model: Any = InstructBlipVideoForConditionalGeneration(config).eval()
        self.model.to(dtype)

    def answer(self, pixels: torch.Tensor, tokens: int) -> tuple[float, float]:
        """Seconds from decoded frames, uint8 (T,3,H,W), to the first and to the last of `tokens` greedy tokens."""
        started, clock = perf_counter(), _Clock()
        # its own processor also scales each channel to unit variance
        images = (resize_crop(pixels, self.image_size) / 127.5 - 1).to(self.model.dtype)
        visual = torch.full((1, len(pixels) * self.queries), self.placeholder)
        self.model.generate(
            pixel_values=images[None],
            input_ids=torch.cat((visual, self.question), 1),
            qformer_input_ids=self.instruction,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        assert clock.first is not None  # at least one token was asked for
        return clock.first - started, perf_counter() - started
