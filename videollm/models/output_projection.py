"""From a language model's hidden states to the text condition of a diffusion model (NExT-GPT, Wu et al. 2023,
https://arxiv.org/abs/2309.05519).

The language model writes signal tokens where its answer shall show a picture, a video or a sound. The hidden states of
these tokens become the embeddings that the diffusion model's own text encoder would give for the caption.

Shapes: B answers, S signal tokens, H language-model width, Q embeddings of a condition, C their width.
"""

import warnings

import torch
from torch import nn

from videollm.models.qformer import QFormer, QFormerConfig


class OutputProjection(nn.Module):
    """Turns hidden states of signal tokens into a text condition."""

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """hidden (B,S,H): states of the last layers at the signal tokens. embeddings (B,S,H): the input embeddings of
        these tokens. Returns the condition (B,Q,C)."""
        raise NotImplementedError


class TransformerProjection(OutputProjection):
    """An encoder-decoder transformer, whose decoder reads learned queries."""

    def __init__(self, in_width: int, out_width: int, queries: int, width: int = 512, layers: int = 4, heads: int = 4):
        super().__init__()
        self.input = nn.Linear(in_width, width)
        self.transformer = _transformer(width, layers, heads)
        self.queries = nn.Parameter(torch.randn(1, queries, width))
        self.output = nn.Linear(width, out_width)

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        read = self.input(hidden + embeddings)
        return self.output(self.transformer(read, self.queries.expand(len(read), -1, -1)))


def _transformer(width: int, layers: int, heads: int) -> nn.Transformer:
    with warnings.catch_warnings():
        # Nested tensors, which normalising first rules out, would make padding cheaper; there is none here.
        warnings.filterwarnings("ignore", message="enable_nested_tensor")
        return nn.Transformer(width, heads, layers, layers, 4 * width, dropout=0.0, batch_first=True, norm_first=True)


class QFormerProjection(OutputProjection):
    """A Q-Former whose queries read the signal tokens."""

    def __init__(self, in_width: int, out_width: int, config: QFormerConfig):
        super().__init__()
        self.input = nn.Linear(in_width, config.encoder_width)
        self.qformer = QFormer(config)
        self.output = nn.Linear(config.width, out_width)

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        read, _ = self.qformer(self.input(hidden + embeddings))
        return self.output(read)


def alignment_loss(projected: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Mean Euclidean distance between embeddings (B,Q,C) and those of the caption (B,Q,C): the norm, not its square."""
    return (projected - condition).norm(dim=-1).mean()
