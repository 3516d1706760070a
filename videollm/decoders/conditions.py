"""The text conditions of diffusers pipelines, which a model learns to make.

Shapes: K texts, Q embeddings of a condition, C their width.
"""

from collections.abc import Sequence

import torch

from videollm.decoders.pipeline import encode_texts, load_pipeline
from videollm.device import resolve_device


class TextConditions:
    """The text encoder of a pipeline, whose conditions a model learns to make."""

    def __init__(self, source: str, device: str | torch.device | None = None):
        self.device = resolve_device(device)
        self._pipeline = load_pipeline(source, self.device, torch.float32, text_only=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Q and C."""
        _, queries, width = self([""]).shape
        return queries, width

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the conditions (K,Q,C) of K texts, float32 on the CPU. Texts that are too long are cut off."""
        return encode_texts(self._pipeline, texts, self.device).float().cpu()
