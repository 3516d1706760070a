"""The configuration of a model's audio branch."""

from dataclasses import dataclass
from typing import Literal

from videollm.checks import check, check_choice, check_positive

AudioKind = Literal["none", "imagebind", "mel"]


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """A frozen encoder of a video's audio, and the Q-Former that turns its features into tokens.

    Args:
        kind: The kind of encoder. "none" turns the branch off: the model then sees the frames and hears nothing. "mel"
            is the spectrum itself, which has no weights.
        clips: The largest number of clips of a segment, which have learned positions.
        token_dim, encoder_heads: The width of the encoder's features of a clip, and its attention heads.
        queries: The number of tokens of a segment's audio.
        width, layers, heads, mlp_ratio, dropout: Sizes of the Q-Former.
    """

    kind: AudioKind = "none"
    clips: int = 8
    token_dim: int = 1024
    encoder_heads: int = 12
    queries: int = 8
    width: int = 768
    layers: int = 2
    heads: int = 12
    mlp_ratio: float = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_choice("audio kind", self.kind, AudioKind)
        check_positive(clips=self.clips, token_dim=self.token_dim, encoder_heads=self.encoder_heads)
        check_positive(queries=self.queries, width=self.width, layers=self.layers, heads=self.heads)
        check_positive(mlp_ratio=self.mlp_ratio)
        check(0 <= self.dropout < 1, f"audio dropout is {self.dropout}; it must be 0 or above and below 1")
        check(self.width % self.heads == 0, f"audio width {self.width} must be a multiple of heads {self.heads}")
