"""A video model of transformers, which reads ids and pixels itself, with the methods of `VideoLLM` that inference uses.

Shapes: L prompt tokens, R rows of positions, V vocabulary.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from videollm.models.hub.prompt import HubInputs, HubPrompt
from videollm.models.labels import IGNORE


class HubLLM(nn.Module):
    """language_model: any model for images, videos and text of transformers, whose forward pass does everything from
    the pixels to the logits."""

    def __init__(self, language_model: Any):
        super().__init__()
        self.language_model = language_model

    @property
    def device(self) -> torch.device:
        """Where prompts are embedded."""
        return self.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.language_model.dtype

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def read(self, prompt: HubPrompt, kept: int) -> HubInputs:
        """What the model reads of a prompt after its first `kept` tokens."""
        arguments = self._arguments(prompt)
        positions = self._positions(arguments)
        ids = arguments.pop("input_ids")[0]
        return HubInputs(ids[kept:], positions[:, kept:], arguments if kept == 0 else {})

    def embed_words(self, ids: list[int]) -> HubInputs:
        return HubInputs(torch.tensor(ids, device=self.device), None, {})

    def forward(self, prompt: HubPrompt) -> CausalLMOutputWithPast:
        """The mean next-token loss over the labels of one prompt that are not `IGNORE`."""
        logits = self.labelled_logits(prompt)
        labels = torch.tensor([label for label in prompt.labels if label != IGNORE], device=logits.device)
        return CausalLMOutputWithPast(loss=nn.functional.cross_entropy(logits, labels))  # type: ignore[arg-type]

    def labelled_logits(self, prompt: HubPrompt) -> torch.Tensor:
        """The float32 logits (n,V) that predict the n labels that are not `IGNORE`."""
        predicts = [place - 1 for place, label in enumerate(prompt.labels) if label != IGNORE]
        first = min(predicts)
        arguments = self._arguments(prompt)
        positions = as_argument(self._positions(arguments))
        output = self.language_model(
            **arguments, position_ids=positions, use_cache=False, logits_to_keep=len(prompt) - first
        )
        return output.logits[0, [place - first for place in predicts]].float()

    def _arguments(self, prompt: HubPrompt) -> dict[str, torch.Tensor]:
        made = {name: value.to(self.device) for name, value in prompt.arguments().items()}
        return {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in made.items()}

    def _positions(self, arguments: dict[str, torch.Tensor]) -> torch.Tensor:
        """(R,L). transformers computes them for `generate`, so they are those of its own answers. They are passed with
        each call, since the model would else keep those of one conversation and use them for another."""
        ids = arguments["input_ids"]
        positions = self.language_model._prepare_position_ids_for_generation(
            ids, {**arguments, "attention_mask": torch.ones_like(ids)}
        )
        return positions.reshape(-1, ids.shape[1])


def as_argument(positions: torch.Tensor) -> torch.Tensor:
    """Positions (R,L) of one conversation in the form that models take: (1,L), or (R,1,L) where they have rows."""
    return positions if len(positions) == 1 else positions[:, None]
