"""Runners compute next-token logits for any number of conversations and keep the keys and values of each.

`LlamaRunner` (`videollm/cpu/llama.py`) serves Llama and Qwen2 on a CPU. `TransformersRunner` serves every other model
and every other device, with transformers' own attention. `make_runner` chooses.

Shapes: B conversations, L new tokens of one, S positions of the longest, H hidden width, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from videollm.cpu.llama import LlamaRunner
from videollm.inference.rope import forget_lengths, length_dependent_ropes


class KVCache(Protocol):
    """Keys and values of one conversation, on the device of the model."""

    @property
    def length(self) -> int:
        """Number of positions."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        ...

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        ...

    def fork(self, length: int) -> "KVCache":
        """A copy of the first `length` positions, which may grow in another way."""
        ...


class ModelRunner(Protocol):
    def begin(self) -> KVCache:
        """The empty cache of a new conversation."""
        ...

    def forward(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """Logits (B,V) of the token after the last new one of each conversation.

        batch: for each conversation its new tokens, as `Prompt.inputs` gives them (embeddings (L,H), L of its own,
        or `HubInputs`), and its cache from `begin`, to which their keys and values are appended. No
        conversation changes the logits of another beyond rounding.
        """
        ...


def make_runner(language_model: nn.Module) -> ModelRunner:
    """The fastest runner that computes what `language_model` does on the device where it is."""
    if LlamaRunner.supports(language_model):
        return LlamaRunner(language_model)
    return TransformersRunner(language_model)


class DynamicKVCache(DynamicCache):
    """transformers' cache, which keeps every position of every layer: of sliding-window layers too, since a
    conversation may be cropped to any earlier position."""

    @property
    def length(self) -> int:
        return self.get_seq_length()

    @property
    def nbytes(self) -> int:
        layers: list[Any] = self.layers  # transformers has kinds without keys, and keys that are not there yet
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def crop(self, length: int) -> None:
        if drop := self.get_seq_length() - length:
            super().crop(-drop)

    def fork(self, length: int) -> "DynamicKVCache":
        other = deepcopy(self)
        other.crop(length)
        return other


class TransformersRunner:
    """Any causal language model, through its own forward pass."""

    def __init__(self, language_model: Any):
        self.language_model = language_model
        self.ropes = length_dependent_ropes(language_model)
        own = language_model.get_base_model() if hasattr(language_model, "get_base_model") else language_model
        # A model that takes no positions derives them from the length of its cache, which rows do not have in common.
        self._batches = not self.ropes and "position_ids" in inspect.signature(own.forward).parameters

    def begin(self) -> DynamicKVCache:
        return DynamicKVCache()

    def forward(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """See `ModelRunner.forward`. Conversations that go on by one token each run as one batch, since then the
        weights are read once for all of them. Prompts run one after another: they keep a device busy by themselves."""
        one_token_each = all(len(inputs) == 1 for inputs, _ in batch)
        if len(batch) > 1 and one_token_each and self._batches:
            return self._decode_together(batch)
        return torch.cat([self._run(inputs, cache) for inputs, cache in batch])

    def _run(self, inputs: Any, cache: DynamicKVCache) -> torch.Tensor:
        """(1,V)."""
        forget_lengths(self.ropes)
        output = self.language_model(
            **self._arguments(inputs, cache), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]

    def _decode_together(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """(B,V). Shorter conversations are padded on the left, so that the new tokens share the last column: the
        distances that sliding windows count are then the same as without padding."""
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
        """The new tokens of one conversation."""
        return {"inputs_embeds": inputs[None]}

    def _together(self, batch: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """The next token of each conversation, with its position."""
        embeds = torch.cat([embeds for embeds, _ in batch])[:, None]  # (B,1,H)
        positions = torch.tensor([cache.length for _, cache in batch], device=embeds.device)
        return {"inputs_embeds": embeds, "position_ids": positions[:, None]}


class _BatchCache(Cache):
    """Caches of several conversations as one, for a step of one token each."""

    def __init__(self, caches: list[DynamicKVCache]):
        super().__init__(layers=[_BatchLayer(layers) for layers in zip(*(c.layers for c in caches), strict=True)])


class _BatchLayer(CacheLayerMixin):
    """One layer of several conversations: what is new goes to each one's own cache, and attention gets a padded copy of
    all of them, which lives as long as the layer's computation."""

    is_sliding = False

    def __init__(self, layers: Sequence[Any]):
        super().__init__()
        self.layers = layers
        self.longest = max(layer.get_seq_length() for layer in layers)
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Every conversation has read its prompt before, so its own layers are initialised."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """key_states and value_states (B, heads, 1, width); returns both (B, heads, S, width)."""
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
        """Number of columns, and the first one's number."""
        return self.longest + query_length, 0

    def get_max_length(self) -> int:
        return -1  # transformers' value for a layer without a limit
