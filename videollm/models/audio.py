"""The audio branch of a model: a Q-Former turns the features of a segment's clips of audio into tokens.

Shapes: B segments, S clips, D width of a clip's features, Q query tokens, H language-model width.
"""

import torch
from torch import nn

from videollm.audio_config import AudioConfig
from videollm.models.qformer import QFormer, QFormerConfig


class AudioQFormer(nn.Module):
    """Adds a learned embedding of each clip's index, then a Q-Former and one linear layer (Video-LLaMA, Zhang et al.
    2023)."""

    def __init__(self, config: QFormerConfig, clips: int, out_dim: int):
        super().__init__()
        self.queries = config.queries
        self.position = nn.Embedding(clips, config.encoder_width)
        self.qformer = QFormer(config)
        self.output = nn.Linear(config.width, out_dim)

    def forward(self, clips: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the query tokens (B,Q,H).

        Args:
            clips: The features (B,S,D). S is at most the number of positions.
            mask: bool (B,S), True at real clips, which come before padding. None takes all as real.
        """
        hidden, _ = self.qformer(clips + self.position.weight[: clips.shape[1]], mask)
        return self.output(hidden)


def build_audio(config: AudioConfig, out_dim: int) -> AudioQFormer | None:
    """Returns the audio branch with random weights for tokens of width `out_dim`, or None where it is turned off."""
    if config.kind == "none":
        return None
    sizes = QFormerConfig(
        queries=config.queries,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        ffn_width=round(config.mlp_ratio * config.width),
        encoder_width=config.token_dim,
        cross_attention_every=1,
        dropout=config.dropout,
    )
    return AudioQFormer(sizes, config.clips, out_dim)
