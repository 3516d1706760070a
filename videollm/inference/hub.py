"""Run a video model of transformers: it gets ids, positions and pixels, and keeps keys and values between turns.

Shapes: B conversations, L new tokens of one, R rows of positions, S positions of the longest, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from videollm.inference.transformers_runner import DynamicKVCache, TransformersRunner
from videollm.models.hub.model import as_argument
from videollm.models.hub.prompt import HubInputs


class HubKVCache(DynamicKVCache):
    """The cache of one conversation, with every position of every layer that has keys.

    Attributes:
        shift: By how much the position of the next token is above the number of tokens read, (R,1). In models with
            positions in time, height and width, a video takes fewer positions than it has tokens.
        recurrent: Whether there are layers with a state, which cannot go back to an earlier position.
    """

    shift: torch.Tensor

    def __init__(self, config: PretrainedConfig):
        super().__init__(config=config)
        self.layers = [DynamicLayer() if isinstance(x, DynamicSlidingWindowLayer) else x for x in self.layers]
        self.recurrent = any(isinstance(layer, LinearAttentionLayer) for layer in self.layers)
        self._config = config

    def crop(self, length: int) -> None:
        """Forgets all but the first `length` positions. With recurrent layers, forgets everything if that is less."""
        if not self.recurrent:
            super().crop(length)
        elif length < self.length:
            self.layers = HubKVCache(self._config).layers

    def positions(self, count: int) -> torch.Tensor:
        """Returns the positions (R,count) of the next tokens, which are words."""
        return torch.arange(self.length, self.length + count, device=self.shift.device) + self.shift


class HubRunner(TransformersRunner):
    """Any model for images, videos and text of transformers. See `ModelRunner`, with `HubInputs` for embeddings."""

    def __init__(self, language_model: Any):
        super().__init__(language_model)
        self._config = language_model.config.get_text_config()
        self._batches = self._batches and not self.begin().recurrent

    def begin(self) -> HubKVCache:
        return HubKVCache(self._config)

    def _arguments(self, inputs: HubInputs, cache: HubKVCache) -> dict[str, Any]:
        positions = inputs.positions
        if positions is None:
            positions = cache.positions(len(inputs))
        else:
            cache.shift = positions[:, -1:] + 1 - cache.length - len(inputs)
        return {"input_ids": inputs.ids[None], "position_ids": as_argument(positions), **inputs.tensors}

    def _together(self, batch: Sequence[tuple[HubInputs, HubKVCache]]) -> dict[str, Any]:
        positions = [as_argument(cache.positions(1)) for _, cache in batch]
        return {
            "input_ids": torch.stack([inputs.ids for inputs, _ in batch]),
            "position_ids": torch.cat(positions, dim=-2),
        }
