"""The head that mixes frames with a transformer (CLIP4Clip "seqTransf")."""

import torch
from torch import nn

from videollm.errors import ConfigError
from videollm.retrieval.clip import TextTransformer, Transformer
from videollm.retrieval.heads.pooling import MeanPooling

CROSS_EPS = 1e-12  # of layer norms in the modules that CLIP4Clip adds; those of CLIP have 1e-5


def copy_text_blocks(transformer: Transformer, positions: nn.Parameter, text: TextTransformer) -> None:
    """Initialises a transformer with the positions and the first blocks of CLIP's text tower, as CLIP4Clip does.

    Both must have the same width and context length.
    """
    source = dict(text.transformer.named_parameters())
    with torch.no_grad():
        positions.copy_(text.positional_embedding)
        for name, parameter in transformer.named_parameters():
            parameter.copy_(source[name])


class TemporalTransformer(MeanPooling):
    """u = Transformer(v + P_{0..T-1}) + v with CLIP's blocks, then as `MeanPooling`. Padded frames are not attended to.

    Source: CLIP4Clip "seqTransf" (Luo et al. 2021), `modules/modeling.py` and `modules/module_cross.py`.
    """

    def __init__(
        self, embed_dim: int, layers: int = 4, heads: int = 8, mlp_width: int | None = None, context: int = 77
    ):
        super().__init__(embed_dim)
        self.positions = nn.Parameter(0.02 * torch.randn(context, embed_dim))
        self.transformer = Transformer(embed_dim, layers, heads, mlp_width or 4 * embed_dim, CROSS_EPS)

    def init_from(self, text: TextTransformer) -> None:
        copy_text_blocks(self.transformer, self.positions, text)

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        length = frames.shape[1]
        if length > len(self.positions):
            raise ConfigError(
                f"a video has {length} frames, this head has positions for {len(self.positions)}: sample fewer"
            )
        return self.transformer(frames + self.positions[:length], mask) + frames
