"""A video model of transformers, which reads ids and pixels itself, with the methods of `VideoLLM` that inference uses.

Shapes: L prompt tokens, R rows of positions, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from videollm.models.hub.prompt import HubInputs, HubPrompt
from videollm.models.labels import IGNORE


class HubLLM(nn.Module):
    """A model for images, videos and text of transformers, whose forward pass goes from pixels to logits."""

    def __init__(self, language_model: Any):
        super().__init__()
        self.language_model = language_model

    @property
    def device(self) -> torch.device:
        """Where prompts are embedded."""
        weight = self.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        return weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.language_model.dtype

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def read(self, prompt: HubPrompt, kept: int) -> HubInputs:
        """Returns what the model reads of a prompt after its first `kept` tokens."""
        arguments = self._arguments(prompt)
        positions = self._positions(arguments)
        ids = arguments.pop("input_ids")[0]
        return HubInputs(ids[kept:], positions[:, kept:], arguments if kept == 0 else {})

    def embed_words(self, ids: list[int]) -> HubInputs:
        return HubInputs(torch.tensor(ids, device=self.device), None, {})

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Makes the backward pass compute activations again. See transformers' `PreTrainedModel`."""
        self.language_model.activation_checkpointing_enable(**options)

    def forward(self, prompts: Sequence[HubPrompt]) -> CausalLMOutputWithPast:
        """Returns the mean next-token loss over the labels of all prompts that are not `IGNORE`.

        Prompts run one after another: one of them keeps a device busy, and no family needs padding.
        """
        logits = self.labelled_logits(prompts)
        labels = [label for prompt in prompts for label in prompt.labels if label != IGNORE]
        loss = F.cross_entropy(logits, torch.tensor(labels, device=logits.device))
        return CausalLMOutputWithPast(loss=loss)  # type: ignore[arg-type]

    def labelled_logits(self, prompts: Sequence[HubPrompt]) -> torch.Tensor:
        """Returns the float32 logits (n,V) that predict the n labels of all prompts that are not `IGNORE`."""
        return torch.cat([self._labelled_logits(prompt) for prompt in prompts])

    def _labelled_logits(self, prompt: HubPrompt) -> torch.Tensor:
        # Counted from the end, because some models compute all logits whatever they are asked to keep.
        predicts = [place - 1 - len(prompt) for place, label in enumerate(prompt.labels) if label != IGNORE]
        arguments = self._arguments(prompt)
        positions = as_argument(self._positions(arguments))
        output = self.language_model(
            **arguments, position_ids=positions, use_cache=False, logits_to_keep=-min(predicts)
        )
        return output.logits[0, predicts].float()

    def _arguments(self, prompt: HubPrompt) -> dict[str, torch.Tensor]:
        made = {name: value.to(self.device) for name, value in prompt.arguments().items()}
        return {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in made.items()}

    def _positions(self, arguments: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the positions (R,L), which transformers computes as for `generate`.

        They are passed with each call, because the model would otherwise keep those of one conversation and use them
        for another.
        """
        ids = arguments["input_ids"]
        positions = self.language_model._prepare_position_ids_for_generation(
            ids, {**arguments, "attention_mask": torch.ones_like(ids)}
        )
        return positions.reshape(-1, ids.shape[1])


def as_argument(positions: torch.Tensor) -> torch.Tensor:
    """Returns positions (R,L) of one conversation as models take them: (1,L), or (R,1,L) if they have rows."""
    return positions if len(positions) == 1 else positions[:, None]
