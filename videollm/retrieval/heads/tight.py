"""The cross-encoder head over one text vector and the frames (CLIP4Clip "tightTransf")."""

import torch
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import ConfigError
from videollm.retrieval.clip import TextTransformer, Transformer, quick_gelu
from videollm.retrieval.head import PairwiseHead, VideoRepr, masked_mean, unit
from videollm.retrieval.heads.transformer import CROSS_EPS, copy_text_blocks


class TightTransformer(PairwiseHead):
    """For each pair of a text t and frames v:

        h = Transformer([t; v_1..v_T] + P);  score = w · quick_gelu(W ln(h_0) + b) + b'

    Padded frames are not attended to. Nothing is normalised, and there is no temperature. The last block computes only
    token 0, and pairs are scored in blocks. The official code computes all tokens of all pairs at once, with the same
    result. Source: CLIP4Clip "tightTransf" (Luo et al. 2021), `modules/module_cross.py`.
    """

    def __init__(
        self, embed_dim: int, layers: int = 4, heads: int = 8, mlp_width: int | None = None, context: int = 77
    ):
        super().__init__()
        self.pair_positions = nn.Parameter(0.02 * torch.randn(context, embed_dim))
        self.mlp_width = mlp_width or 4 * embed_dim
        self.pair_transformer = Transformer(embed_dim, layers, heads, self.mlp_width, CROSS_EPS)
        self.ln_pool = nn.LayerNorm(embed_dim, eps=CROSS_EPS)
        self.dense = nn.Linear(embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, 1)
        for layer in (self.dense, self.output):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def init_from(self, text: TextTransformer) -> None:
        copy_text_blocks(self.pair_transformer, self.pair_positions, text)

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        length = frames.embed.shape[1]
        if length >= len(self.pair_positions):
            raise ConfigError(
                f"a video has {length} frames, this head has positions for {len(self.pair_positions) - 1}: sample fewer"
            )
        return VideoRepr(masked_mean(unit(frames.embed), mask), frames.embed, mask)

    def pair_elements(self, text: TextFeatures, video: VideoRepr) -> int:
        return (1 + video.frames.shape[1]) * self.mlp_width

    def score_block(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        texts, videos = len(text.embed), len(video)
        token = text.embed[:, None, None].expand(-1, videos, 1, -1)
        pairs = torch.cat((token, video.frames.expand(texts, -1, -1, -1)), 2)  # (Nt,Nv,1+T,E)
        mask = nn.functional.pad(video.mask, (1, 0), value=True).repeat(texts, 1)
        x = pairs.flatten(0, 1) + self.pair_positions[: pairs.shape[2]]
        x = self.ln_pool(self.pair_transformer(x, mask, queries=1)[:, 0])
        return self.output(quick_gelu(self.dense(x))).view(texts, videos)
