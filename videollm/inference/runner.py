"""Runners compute next-token logits for any number of conversations, and keep the keys and values of each.

`LlamaRunner` (`videollm/cpu/llama.py`) runs Llama and Qwen2 on a CPU. `TransformersRunner` runs all other models, and
all models on other devices, with transformers' own attention. `make_runner` selects one.

Shapes: B conversations, L new tokens of one, H hidden width, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from videollm.cpu.llama import LlamaRunner
from videollm.cpu.llama_weights import LlamaWeights

if TYPE_CHECKING:
    from torch import nn


class KVCache(Protocol):
    """The keys and values of one conversation, on the device of the model."""

    @property
    def length(self) -> int:
        """The number of positions."""
        ...

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        ...

    def crop(self, length: int) -> None:
        """Removes all but the first `length` positions."""
        ...

    def fork(self, length: int) -> "KVCache":
        """Returns a copy of the first `length` positions, which can be continued independently."""
        ...


class ModelRunner(Protocol):
    """Computes the logits of next tokens."""

    def begin(self) -> KVCache:
        """Returns the empty cache of a new conversation."""
        ...

    def forward(self, batch: Sequence[tuple[Any, Any]]) -> torch.Tensor:
        """Returns the logits (B,V) of the token after the last new one of each conversation.

        No conversation changes the logits of another beyond rounding.

        Args:
            batch: For each conversation, its new tokens as `Prompt.inputs` returns them (embeddings (L,H) or
                `HubInputs`) and its cache from `begin`, to which their keys and values are appended. L may differ
                between conversations.
        """
        ...


def make_runner(language_model: "nn.Module | LlamaWeights") -> ModelRunner:
    """Returns the fastest runner that computes what `language_model` computes on its device."""
    if isinstance(language_model, LlamaWeights):
        return LlamaRunner(language_model)
    # transformers takes seconds to import, and weights alone need none of it.
    from videollm.cpu.transformers_llama import supports, weights_of
    from videollm.inference.transformers_runner import TransformersRunner

    if supports(language_model):
        return LlamaRunner(weights_of(language_model))
    return TransformersRunner(language_model)
