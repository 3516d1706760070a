"""What the two published forms of NExT-GPT share: how they are read and how their output projections are built.

Shapes: B rows, L tokens, N signal tokens, H width of LLaMA.
"""

from collections.abc import Sequence

import torch
from torch import nn

from videollm.errors import CheckpointError
from videollm.models.output_projection import QFormerProjection, TransformerProjection
from videollm.models.published.key_mapping import bert_name
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import Config, PublishedSystem, StateShapes, setting
from videollm.output_config import MODALITIES, Modality

SHORT = ("img", "vid", "aud")  # the same in the names of settings
SENTINELS: dict[int, Modality] = {-200: "image", -300: "video", -400: "audio"}  # stand for media among ids
HEADS = 4  # of the transformer projection


class NextGptBase(PublishedSystem):
    """What both forms share. config: {"llama": {"heads", "rms_norm_eps"}, "qformer": {"heads"}} and more."""

    llama: nn.Module

    def signal_ids(self, counts: Sequence[int]) -> dict[str, torch.Tensor]:
        """Ids of the signal tokens of each modality, which are the last of the vocabulary, in the order of MODALITIES.
        counts: how many each has."""
        words = len(self.llama.get_input_embeddings().weight)  # type: ignore[operator]
        ids = torch.arange(words - sum(counts), words)
        return dict(zip(MODALITIES, ids.split(list(counts)), strict=True))

    def read(self, embeds: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """embeds (B,L,H), mask (B,L) to logits (B,L,V) and the hidden states (B,L,H) of every layer."""
        found = self.llama(inputs_embeds=embeds, attention_mask=mask, use_cache=False, output_hidden_states=True)
        return found.logits, found.hidden_states

    def at_signals(self, states: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The rows of states (B,L,H) from the first to the last of the signal tokens `ids` in labels (B,L): (B,N,H)."""
        firsts, lasts = ((labels == end).nonzero().tolist() for end in (ids[0], ids[-1]))
        ends = zip(firsts, lasts, strict=True)
        return torch.stack([states[row, first : last + 1] for (row, first), (_, last) in ends])


def linear(shapes: StateShapes, name: str) -> nn.Linear:
    out_width, in_width = shapes[f"{name}.weight"]
    return nn.Linear(in_width, out_width)


def output_projection(shapes: StateShapes, name: str, first: str, last: str, config: Config) -> nn.Module:
    """The projection whose tensors are below `name`. first, last: official names of its outer linear layers."""
    if shapes.has(f"{name}.Qformer."):
        in_width, out_width = shapes[f"{name}.{first}.weight"][1], shapes[f"{name}.{last}.weight"][0]
        queries, heads = shapes[f"{name}.query_tokens"][1], int(setting(config, "qformer", "heads"))
        return QFormerProjection(in_width, out_width, qformer_config(shapes, f"{name}.Qformer", queries, heads, 1))
    if f"{name}.query_embs" not in shapes.state:
        raise CheckpointError(f"{name} is a linear output projection, which the official code cannot run")
    width, in_width = shapes[f"{name}.{first}.weight"]
    return TransformerProjection(
        in_width,
        shapes[f"{name}.{last}.weight"][0],
        shapes[f"{name}.query_embs"][1],
        width=width,
        layers=shapes.count(f"{name}.tfm.encoder.layers"),
        heads=HEADS,
    )


def official_output(name: str, first: str, last: str) -> str:
    """The official name of a parameter of an output projection."""
    if name == "qformer.query_tokens":
        return "query_tokens"
    part, _, inside = name.partition(".")
    if part == "qformer":
        return f"Qformer.{bert_name(inside)}"
    named = {"input": first, "output": last, "transformer": "tfm", "queries": "query_embs"}[part]
    return f"{named}.{inside}" if inside else named
