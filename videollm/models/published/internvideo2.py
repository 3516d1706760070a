"""InternVideo2's towers (Wang et al. 2024; OpenGVLab InternVideo `InternVideo2/multi_modality/models/backbones`).

Shapes: B videos or texts, T frames, P patches a frame, W tower width, L text tokens, C width of the pooled video.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.published.transformer import BlockConfig, PatchEmbed, vit_blocks
from videollm.models.qformer import BERT_EPS, QFormerAttention, QFormerConfig, QFormerFeedForward

POOL_EPS = 1e-5


class AttentionPool(nn.Module):
    """One query, the mean of all tokens, reads all tokens (`internvideo2.py`, AttentionPoolingBlock). Queries, keys
    and values are normalised each by itself and have a bias each."""

    def __init__(self, width: int, heads: int, out_width: int):
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(width, eps=POOL_EPS) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, out_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,L,W) to (B,C)."""
        projected = (
            self.q(self.norm_q(x.mean(1, keepdim=True))),
            self.k(self.norm_k(x)),
            self.v(self.norm_v(x)),
        )
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in projected)
        pooled = F.scaled_dot_product_attention(query, key, value)
        return self.proj(pooled.transpose(1, 2).flatten(1))


class LinearDecoder(nn.Module):
    """What is compared with a teacher's features in distillation: a linear layer, a norm, unit length."""

    def __init__(self, width: int, out_width: int):
        super().__init__()
        self.head = nn.Linear(width, out_width)
        self.norm = nn.LayerNorm(out_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.norm(self.head(x)), dim=-1)


@dataclass(frozen=True, kw_only=True)
class InternVideo2Sizes:
    """patch: pixels a side. frames: T. positions: 1 + T·P. image_positions: 1 + P where images have a table of their
    own, else None: images take the mean over time. decoders: output widths of the decoders of the last blocks, the
    earliest of them first; final_decoder: that of the pooled video's."""

    patch: int
    frames: int
    positions: int
    image_positions: int | None
    pool_heads: int
    pool_width: int
    decoders: tuple[int, ...]
    final_decoder: int


class InternVideo2Vision(nn.Module):
    """Joint space-time attention with a class token and learned positions, pooled by attention (PretrainInternVideo2
    without fused kernels)."""

    def __init__(self, blocks: BlockConfig, sizes: InternVideo2Sizes):
        super().__init__()
        width = blocks.width
        self.patch, self.frames = sizes.patch, sizes.frames
        self.patch_embed = PatchEmbed(width, sizes.patch, tubelet=1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.positions, width))
        self.clip_pos_embed = nn.Parameter(torch.zeros(1, sizes.positions, width))
        self.img_pos_embed = self.clip_img_pos_embed = None
        if sizes.image_positions is not None:
            self.img_pos_embed = nn.Parameter(torch.zeros(1, sizes.image_positions, width))
            self.clip_img_pos_embed = nn.Parameter(torch.zeros(1, sizes.image_positions, width))
        self.blocks = vit_blocks(blocks)
        self.clip_projector = AttentionPool(width, sizes.pool_heads, sizes.pool_width)
        self.clip_decoder = nn.ModuleList(LinearDecoder(width, out) for out in sizes.decoders)
        self.final_clip_decoder = LinearDecoder(sizes.pool_width, sizes.final_decoder)

    def forward(self, video: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pixels (B,T,3,H,W), T = 1 for images, to the last block's tokens (B,1+T·P,W) and the pooled video
        (B,C). mask (B,1+T·P) bool: True at tokens that are left out, the same number in each row."""
        hidden = self._hidden(video, mask)
        return hidden[-1], self.clip_projector(hidden[-1])

    def distilled(self, video: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What distillation compares with the teachers: the last K blocks' decoded tokens (K,B,L,·) and the decoded
        pooled video (B,·), of unit length."""
        hidden = self._hidden(video, mask)
        table = self._positions(self.clip_pos_embed, self.clip_img_pos_embed, video.shape[1])
        table = _visible(table.expand(len(video), -1, -1), mask)
        last = hidden[-len(self.clip_decoder) :]
        decoded = [decoder(x + table) for decoder, x in zip(self.clip_decoder, last, strict=True)]
        return torch.stack(decoded), self.final_clip_decoder(self.clip_projector(hidden[-1]))

    def _hidden(self, video: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
        x = self.patch_embed(video.transpose(1, 2))
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1)
        x = _visible(x + self._positions(self.pos_embed, self.img_pos_embed, video.shape[1]), mask)
        hidden = []
        for block in self.blocks:
            x = block(x)
            hidden.append(x)
        return hidden

    def _positions(self, table: torch.Tensor, image_table: torch.Tensor | None, frames: int) -> torch.Tensor:
        if frames > 1:
            return table
        if image_table is not None:
            return image_table
        # The class token's row stays; a patch's row is the mean of its rows over time.
        over_time = table[:, 1:].unflatten(1, (self.frames, -1)).mean(1)
        return torch.cat((table[:, :1], over_time), 1)


def _visible(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x[~mask].unflatten(0, (len(x), -1))


def sincos_3d_positions(width: int, frames: int, grid: int) -> torch.Tensor:
    """Where training starts the learned positions (`pos_embed.py`, get_3d_sincos_pos_embed): (1 + frames · grid²,
    width), zeros for the class token, then frame by frame a quarter of the width for time and three eighths each for
    column and row."""
    time, column, row = torch.meshgrid(torch.arange(frames), torch.arange(grid), torch.arange(grid), indexing="ij")
    parts = [_sincos(width // 4, time), _sincos(width * 3 // 8, row), _sincos(width * 3 // 8, column)]
    return F.pad(torch.cat(parts, 1), (0, 0, 1, 0))


def _sincos(width: int, at: torch.Tensor) -> torch.Tensor:
    """(positions, width): sines, then cosines, of at / 10000^(i / (width / 2))."""
    rates = 10000 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = at.flatten().double()[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), 1).float()


class FusionBlock(nn.Module):
    """A BERT layer; a fusion layer also reads the video between self-attention and feed-forward."""

    def __init__(self, config: QFormerConfig, fusion: bool):
        super().__init__()
        self.self_attention = QFormerAttention(config, config.width)
        self.cross_attention = QFormerAttention(config, config.encoder_width) if fusion else None
        self.text_ffn = QFormerFeedForward(config)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, video: torch.Tensor | None) -> torch.Tensor:
        x, _ = self.self_attention(x, x, mask)
        if self.cross_attention is not None:
            x, _ = self.cross_attention(x, video, None)
        return self.text_ffn(x)


class FusionBert(nn.Module):
    """BERT whose first `fusion_layer` layers read the text alone and whose others also read the video
    (`backbones/bert/xbert.py`)."""

    def __init__(self, config: QFormerConfig, fusion_layer: int):
        super().__init__()
        assert config.vocab_size is not None
        self.fusion_layer = fusion_layer
        self.word_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_positions, config.width)
        self.token_type_embedding = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.blocks = nn.ModuleList(FusionBlock(config, fusion=i >= fusion_layer) for i in range(config.layers))

    def encode_text(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """ids (B,L), mask (B,L) bool, to the hidden states before fusion (B,L,W)."""
        x = self.word_embedding(ids) + self.token_type_embedding.weight[0]
        x = self.norm(x + self.position_embedding.weight[: ids.shape[1]])
        return self._run(self.blocks[: self.fusion_layer], x, mask, None)

    def fuse(self, text: torch.Tensor, mask: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        """Hidden states of texts (B,L,W), mask (B,L) bool, and tokens of videos (B,S,·) to (B,L,W)."""
        return self._run(self.blocks[self.fusion_layer :], text, mask, video)

    def _run(
        self, blocks: Iterable[nn.Module], x: torch.Tensor, mask: torch.Tensor, video: torch.Tensor | None
    ) -> torch.Tensor:
        for block in blocks:
            x = block(x, mask[:, None, None], video)
        return x
