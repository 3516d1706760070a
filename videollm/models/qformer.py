"""The Q-Former: learned queries read a video or an image by cross-attention. One implementation serves our temporal
module, BLIP-2 (`blip2.py`) and Video-LLaMA (`video_llama.py`).

Shapes: B rows, Q queries, L text tokens, S memory tokens (what the queries read), W width, M memory width;
T frames, N tokens a frame, D encoder width, H language-model width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
from videollm.models.temporal_base import TemporalModule, init_weights

BERT_EPS = 1e-12
KeyValue = tuple[torch.Tensor, torch.Tensor]  # each (B, heads, tokens, W / heads)


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """Sizes of one Q-Former. The defaults are BLIP-2's without text: BERT-base, 32 queries, memory from EVA ViT-g.

    cross_attention_every: layers 0, k, 2k, ... read the memory. vocab_size: None leaves out all that reads text.
    """

    queries: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: int = 3072
    memory_width: int = 1408
    cross_attention_every: int = 2
    dropout: float = 0.1
    vocab_size: int | None = None
    max_positions: int = 512

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}")


class Attention(nn.Module):
    """Multi-head attention with BERT's residual and normalisation after it."""

    def __init__(self, config: QFormerConfig, memory_width: int):
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(memory_width, config.width)
        self.value = nn.Linear(memory_width, config.width)
        self.output = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None, past: KeyValue | None = None
    ) -> tuple[torch.Tensor, KeyValue]:
        """x (B,L,W) reads memory (B,S,M), after `past` where given; mask (B,1,1 or L, past + S), True where it may."""
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(x), self.key(memory), self.value(memory))
        )
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        dropout = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        out = self.output(attended.transpose(1, 2).flatten(2))
        return self.norm(x + self.dropout(out)), (key, value)


class FeedForward(nn.Module):
    """Two linear layers with BERT's residual and normalisation after them."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.up = nn.Linear(config.width, config.ffn_width)
        self.down = nn.Linear(config.ffn_width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.dropout(self.down(F.gelu(self.up(x)))))


class Block(nn.Module):
    """Queries and text share self-attention; only queries read the memory; each has its own feed-forward layer."""

    def __init__(self, config: QFormerConfig, reads_memory: bool):
        super().__init__()
        self.self_attention = Attention(config, config.width)
        self.cross_attention = Attention(config, config.memory_width) if reads_memory else None
        self.query_ffn = FeedForward(config)
        self.text_ffn = None if config.vocab_size is None else FeedForward(config)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        memory: torch.Tensor | None,
        memory_mask: torch.Tensor | None,
        queries: int,
        past: KeyValue | None,
    ) -> tuple[torch.Tensor, KeyValue]:
        """x (B, queries + L, W), the first `queries` of which are queries."""
        x, cache = self.self_attention(x, x, mask, past)
        query, text = x[:, :queries], x[:, queries:]
        parts = []
        if queries:
            if self.cross_attention is not None:
                query, _ = self.cross_attention(query, memory, memory_mask)
            parts.append(self.query_ffn(query))
        if self.text_ffn is not None and text.shape[1]:
            parts.append(self.text_ffn(text))
        return torch.cat(parts, 1), cache


class QFormer(nn.Module):
    """BERT with learned query tokens that read a memory (BLIP-2, Li et al. 2023; LAVIS `blip2_models/Qformer.py`)."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.config = config
        self.query_tokens = nn.Parameter(torch.empty(1, config.queries, config.width))
        if config.vocab_size is not None:
            self.word_embedding = nn.Embedding(config.vocab_size, config.width)
            self.position_embedding = nn.Embedding(config.max_positions, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, reads_memory=i % config.cross_attention_every == 0) for i in range(config.layers)
        )
        self.apply(init_weights)
        nn.init.trunc_normal_(self.query_tokens, std=0.02)

    def forward(
        self,
        memory: torch.Tensor | None = None,
        memory_mask: torch.Tensor | None = None,
        ids: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        past: tuple[KeyValue, ...] | None = None,
        queries: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """Hidden states and each layer's self-attention keys and values. What is given decides what is computed:

        memory: the queries alone, (B,Q,W).
        ids, text_mask: the text alone, bidirectional, (B,L,W).
        memory, ids, text_mask: queries and text together, each seeing the other, (B,Q+L,W).
        ids, text_mask, past: the text, each token seeing those before it and the queries whose cache is `past`, from
        a pass of the queries alone, (B,L,W).

        memory (B,S,M); memory_mask (B,S) bool, None where all is real; ids (B,L) int64; text_mask (B,L) bool.
        queries (1,Q,W): what asks instead of `query_tokens`, of any number.
        """
        parts = []
        if memory is not None:
            parts.append((self.query_tokens if queries is None else queries).expand(len(memory), -1, -1))
        if ids is not None:
            positions = torch.arange(ids.shape[1], device=ids.device)
            parts.append(self.word_embedding(ids) + self.position_embedding(positions))
        x = self.dropout(self.norm(torch.cat(parts, 1)))
        asking = parts[0].shape[1] if memory is not None else 0
        mask = self._attention_mask(text_mask, asking, past)
        if memory_mask is not None:
            memory_mask = memory_mask[:, None, None]
        cache = []
        for i, block in enumerate(self.blocks):
            x, keys_values = block(x, mask, memory, memory_mask, asking, None if past is None else past[i])
            cache.append(keys_values)
        return x, tuple(cache)

    def _attention_mask(
        self, text_mask: torch.Tensor | None, queries: int, past: tuple[KeyValue, ...] | None
    ) -> torch.Tensor | None:
        if text_mask is None:
            return None
        seen = queries if past is None else past[0][0].shape[2]
        mask = F.pad(text_mask, (seen, 0), value=True)[:, None, None]  # (B,1,1,seen+L)
        if past is None:
            return mask
        length = text_mask.shape[1]
        return mask & torch.ones(length, seen + length, dtype=torch.bool, device=mask.device).tril(seen)


SHORTEST_S, LONGEST_S, WAVES = 0.25, 1024.0, 32


def time_features(times_s: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of times (..., 2 * WAVES), with periods from a quarter of a second to 17 minutes in equal
    ratios: positions for any frame rate (Fourier features, Vaswani et al. 2017 with seconds for indices)."""
    steps = torch.linspace(0, 1, WAVES, device=times_s.device)
    periods = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** steps
    phase = 2 * math.pi * times_s.float()[..., None] / periods
    return torch.cat((phase.sin(), phase.cos()), -1)


class TemporalQFormer(TemporalModule):
    """Queries read all tokens of all frames of a segment at once; each token knows its time and its place in the
    frame. Unlike Video-LLaMA's frame indices, times in seconds serve any frame rate and any number of frames.

    tokens_per_frame: N, which gives each place a learned embedding and makes any other N a ConfigError; None: any N,
    and no embedding of places.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.norm = nn.LayerNorm(token_dim)
        self.project = nn.Linear(token_dim, config.width)
        self.time = nn.Linear(2 * WAVES, config.width)
        self.place = None if tokens_per_frame is None else nn.Parameter(torch.empty(tokens_per_frame, config.width))
        self.output = nn.Linear(config.width, out_dim)
        self.apply(init_weights)
        self.qformer = QFormer(
            QFormerConfig(
                queries=config.queries,
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                ffn_width=config.mlp_ratio * config.width,
                memory_width=config.width,
                cross_attention_every=config.cross_attention_every,
                dropout=config.dropout,
            )
        )
        # Unit scale throughout, as BERT's 0.02 is not at this width: with 0.02 the queries' output differs between
        # videos by a thirtieth of its size, and hundreds of steps pass before anything is learnt.
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and layer is not self.output:
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
        if self.place is not None:
            nn.init.trunc_normal_(self.place, std=0.5)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n = tokens.shape[2]
        hidden, _ = self.qformer(self.memory(tokens, elapsed_s), mask.repeat_interleave(n, dim=1))
        return self.output(hidden)

    def memory(self, tokens: torch.Tensor, elapsed_s: torch.Tensor) -> torch.Tensor:
        """What the queries read: tokens (B,T,N,D) with their times and places, (B,T*N,W)."""
        n = tokens.shape[2]
        if self.place is not None and n != len(self.place):
            raise ConfigError(f"frames have {n} tokens each, the temporal module was built for {len(self.place)}")
        memory = self.project(self.norm(tokens))
        memory = memory + self.time(time_features(elapsed_s).to(self.time.weight.dtype))[:, :, None]
        if self.place is not None:
            memory = memory + self.place
        return memory.flatten(1, 2)
