"""Run any causal language model of transformers through its own forward pass.

Shapes: B conversations, L new tokens of one, S positions of the longest, H hidden width, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from videollm.inference.rope import forget_lengths, length_dependent_ropes


class DynamicKVCache(DynamicCache):
    """The cache of transformers. It keeps all positions of all layers, including those with a sliding window,
    because a conversation may be cropped to any earlier position."""

    @property
    def length(self) -> int:
        return self.get_seq_length()

    @property
    def nbytes(self) -> int:
        layers: list[Any] = self.layers  # typed loosely, because some of transformers' kinds have no keys
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def crop(self, length: int) -> None:
        if drop := self.get_seq_length() - length:
            super().crop(-drop)

    def fork(self, length: int) -> "DynamicKVCache":
        other = deepcopy(self)
        other.crop(length)
        return other


class TransformersRunner:
    """Runs any causal language model through its own forward pass."""

    def __init__(self, language_model: Any):
        self.language_model = language_model
        self.ropes = length_dependent_ropes(language_model)
        own = language_model.get_base_model() if hasattr(language_model, "get_base_model") else language_model
        # A model without this argument derives positions from the length of its cache, which differs between rows.
        self._batches = not self.ropes and "position_ids" in inspect.signature(own.forward).parameters

    def begin(self) -> DynamicKVCache:
        return DynamicKVCache()

    def forward(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """See `ModelRunner.forward`.

        Conversations that continue by one token each run as one batch, because the weights are then read once for all
        of them. Prompts run one after another, because each keeps the device busy by itself.
        """
        # An empty cache has no layers yet, of which a batch could be made.
        one_token_each = all(len(inputs) == 1 and cache.length for inputs, cache in batch)
        if len(batch) > 1 and one_token_each and self._batches:
            return self._decode_together(batch)
        return torch.cat([self._run(inputs, cache) for inputs, cache in batch])

    def _run(self, inputs: Any, cache: DynamicKVCache) -> torch.Tensor:
        """Returns the logits (1,V) of one conversation."""
        forget_lengths(self.ropes)
        output = self.language_model(
            **self._arguments(inputs, cache), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]

    def _decode_together(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """Returns the logits (B,V) of conversations that continue by one token each.

        Shorter conversations are padded on the left, so that the new tokens share the last column. The distances that
        sliding windows count are then the same as without padding.
        """
        caches = [cache for _, cache in batch]
        arguments = self._together(batch)
        total = torch.tensor([cache.length for cache in caches])[:, None] + 1
        columns = int(total.max())
        mask = (torch.arange(columns) >= columns - total).long()  # (B,S)
        output = self.language_model(
            **arguments,
            attention_mask=mask.to(arguments["position_ids"].device),
            past_key_values=_BatchCache(caches),
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _arguments(self, inputs: Any, cache: Any) -> dict[str, Any]:
        """Returns the arguments for the new tokens of one conversation."""
        return {"inputs_embeds": inputs[None]}

    def _together(self, batch: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Returns the arguments for one token of each conversation, with their positions."""
        embeds = torch.cat([embeds for embeds, _ in batch])[:, None]  # (B,1,H)
        positions = torch.tensor([cache.length for _, cache in batch], device=embeds.device)
        return {"inputs_embeds": embeds, "position_ids": positions[:, None]}


class _BatchCache(Cache):
    """The caches of several conversations as one, for a step of one token each."""

    def __init__(self, caches: list[DynamicKVCache]):
        super().__init__(layers=[_BatchLayer(layers) for layers in zip(*(c.layers for c in caches), strict=True)])


class _BatchLayer(CacheLayerMixin):
    """One layer of several conversations.

    New keys and values are appended to the cache of each conversation. Attention reads a padded copy of all of them,
    which exists only during the computation of the layer.
    """

    is_sliding = False

    def __init__(self, layers: Sequence[Any]):
        super().__init__()
        self.layers = layers
        self.longest = max(layer.get_seq_length() for layer in layers)
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Does nothing, because the layers of each conversation were initialised when it read its prompt."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends keys and values (B, heads, 1, width). Returns all keys and all values, (B, heads, S, width) each."""
        rows = zip(self.layers, key_states.split(1), value_states.split(1), strict=True)
        grown = [layer.update(key, value) for layer, key, value in rows]
        keys, values = zip(*grown, strict=True)
        return self._pad(keys), self._pad(values)

    def _pad(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        columns = self.longest + 1
        return torch.cat([F.pad(row, (0, 0, columns - row.shape[2], 0)) for row in rows])

    def get_seq_length(self) -> int:
        return self.longest

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns the number of columns, and the number of the first one."""
        return self.longest + query_length, 0

    def get_max_length(self) -> int:
        return -1  # transformers' value for a layer without a limit
