"""Outputs other than text: signal tokens of a language model, and projections of their hidden states to the text
conditions of diffusion models (NExT-GPT, Wu et al. 2023, https://arxiv.org/abs/2309.05519).

Shapes: B prompts, L tokens, H language-model width, V vocabulary, S signal tokens of all modalities, K times that a
modality is shown, N its signal tokens, Q embeddings of a condition, C their width.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.output_projection import (
    OutputProjection,
    QFormerProjection,
    TransformerProjection,
    alignment_loss,
)
from videollm.models.qformer import QFormerConfig
from videollm.output_config import Modality, OutputConfig


def signal_ids(tokenizer: Any, config: OutputConfig) -> dict[Modality, list[int]]:
    """Returns the ids of the signal tokens of each modality, which are added to the tokenizer if it lacks them.

    They are special tokens: those that a user types stay text, and decoding leaves them out.
    """
    found: dict[Modality, list[int]] = {}
    if config.modalities:
        tokens = [name for modality in config.modalities for name in config.signal_tokens(modality)]
        tokenizer.add_special_tokens({"additional_special_tokens": tokens}, replace_extra_special_tokens=False)
    for modality in config.modalities:
        found[modality] = tokenizer.convert_tokens_to_ids(config.signal_tokens(modality))
    return found


class MediaOutputs(nn.Module):
    """Rows of the signal tokens in the embedding and in the output layer of a language model, and output projections.

    Only these are trained: the language model keeps its own matrices. The rows have the ids from `first` on. If the
    matrices of the language model have rows of these ids, which some pad them with, those are not used.
    """

    def __init__(self, config: OutputConfig, width: int, first: int):
        super().__init__()
        self.first = first
        self.ids: dict[Modality, range] = {}
        for modality in config.modalities:
            start = first + sum(map(len, self.ids.values()))
            self.ids[modality] = range(start, start + config.sizes(modality)[0])
        self.count = sum(map(len, self.ids.values()))
        self.embeddings = nn.Parameter(torch.zeros(self.count, width))
        self.head = nn.Parameter(torch.zeros(self.count, width))
        self.projections = nn.ModuleDict({m: build_output(config, m, width) for m in config.modalities})

    def extend(self, language_model: Any) -> None:
        """Makes the language model read and write the signal tokens.

        Its rows start near the mean of the others. Its modules and the names of its tensors stay as they are.
        """
        embedding, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
        with torch.no_grad():
            for rows, matrix in ((self.embeddings, embedding.weight), (self.head, head.weight)):
                known = matrix.detach().float()
                noise = torch.randn(rows.shape, device=known.device) * known.std(0)
                rows.copy_(known.mean(0) + noise)
        embedding.forward = partial(self.embed, embedding.forward)
        head.forward = partial(self.predict, head.forward)
        config = language_model.config.get_text_config()
        config.vocab_size = max(config.vocab_size, self.first + self.count)

    def embed(self, original: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        """Returns the embeddings (...,H) of ids (...). original: the language model's own embedding."""
        own = (ids >= self.first) & (ids < self.first + self.count)
        embeds = original(ids.masked_fill(own, 0))
        rows = self.embeddings[(ids - self.first).clamp(0, self.count - 1)]
        return torch.where(own[..., None], rows.to(embeds), embeds)

    def predict(self, original: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
        """Returns the logits (...,V) of hidden states (...,H). original: the language model's own output layer."""
        logits = original(hidden)
        own = F.linear(hidden, self.head.to(hidden)).to(logits)
        return torch.cat([logits[..., : self.first], own, logits[..., self.first + self.count :]], -1)

    def conditions(self, hidden: torch.Tensor, ids: torch.Tensor) -> dict[Modality, torch.Tensor]:
        """Returns the conditions (K,Q,C) of what is shown, row by row, for each modality that is shown at all.

        Args:
            hidden: The states (B,L,H) of the last layer.
            ids: The token ids (B,L). The signal tokens of a modality stand side by side in their order.
        """
        found: dict[Modality, torch.Tensor] = {}
        for modality, own in self.ids.items():
            at = (ids >= own.start) & (ids < own.stop)
            if at.any():
                found[modality] = self._project(modality, hidden[at].unflatten(0, (-1, len(own))))
        return found

    def _project(self, modality: Modality, states: torch.Tensor) -> torch.Tensor:
        own, projection = self.ids[modality], self.projections[modality]
        rows = self.embeddings[own.start - self.first : own.stop - self.first]
        return projection(states.to(rows), rows.expand(len(states), -1, -1))

    def alignment_loss(
        self, hidden: torch.Tensor, ids: torch.Tensor, wanted: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Returns the sum over modalities of the mean distance of their conditions from `wanted`, each (K,Q,C).

        A modality that is not shown adds 0 with gradients of 0, because ranks reduce gradients together.
        """
        found, losses = self.conditions(hidden, ids), []
        for modality, own in self.ids.items():
            if modality in found:
                losses.append(alignment_loss(found[modality], wanted[modality].to(found[modality])))
            else:
                losses.append(0 * self._project(modality, hidden.new_zeros(1, len(own), hidden.shape[-1])).sum())
        return torch.stack(losses).sum()

    def completed(self, ids: Sequence[int]) -> list[int]:
        """Returns an answer in which each first signal token is followed by the others of its modality.

        The first says that something is shown. The others only give the model places to say what, so they are set
        instead of being left to chance.
        """
        runs = {own.start: own for own in self.ids.values()}
        kept = [token for token in ids if token in runs or not self.first <= token < self.first + self.count]
        return [token for one in kept for token in runs.get(one, (one,))]


def build_output(config: OutputConfig, modality: Modality, width: int) -> OutputProjection:
    """Returns an untrained projection from hidden states of that width to the conditions of a modality."""
    _, queries, out_width = config.sizes(modality)
    if config.kind == "transformer":
        return TransformerProjection(width, out_width, queries, config.width, config.layers, config.heads)
    sizes = QFormerConfig(
        queries=queries,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        ffn_width=4 * config.width,
        encoder_width=config.width,
        cross_attention_every=1,
        dropout=0.0,
    )
    return QFormerProjection(width, out_width, sizes)
