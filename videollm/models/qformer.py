"""The Q-Former, whose learned queries read a video or an image by cross-attention (BLIP-2, Li et al. 2023).

One implementation serves the temporal module of this project, BLIP-2 and the published systems (`published/`).

Shapes: B rows, Q queries, L text tokens, S encoder tokens, W width of the Q-Former, M width of the encoder tokens, T
frames, N tokens per frame, D encoder width, H language-model width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
from videollm.models.temporal_base import TemporalModule, init_weights

BERT_EPS = 1e-12  # of BERT's layer norms; torch's default, 1e-5, changes the outputs of published weights
KeyValue = tuple[torch.Tensor, torch.Tensor]  # keys and values, each (B, heads, tokens, W / heads)


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """Sizes of a Q-Former. The defaults are those of BLIP-2 without text: BERT-base, 32 queries, tokens of EVA ViT-g.

    Args:
        queries: Q, the number of queries.
        width: W, the width of the hidden states, a multiple of `heads`.
        layers, heads: Numbers of layers and of attention heads.
        ffn_width: The hidden width of the feed-forward layers.
        encoder_width: M, the width of the encoder tokens.
        cross_attention_every: Layers 0, k, 2k, ... have cross-attention.
        dropout: The probability of dropout in training.
        vocab_size: The number of words. None builds no embeddings and no feed-forward layers for text.
        max_positions: The largest number of text tokens.

    Raises:
        ConfigError: If `width` is not a multiple of `heads`.
    """

    queries: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: int = 3072
    encoder_width: int = 1408
    cross_attention_every: int = 2
    dropout: float = 0.1
    vocab_size: int | None = None
    max_positions: int = 512

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}")


class QFormerAttention(nn.Module):
    """Multi-head attention followed by BERT's residual connection and normalisation."""

    def __init__(self, config: QFormerConfig, key_width: int):
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(key_width, config.width)
        self.value = nn.Linear(key_width, config.width)
        self.output = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, states: torch.Tensor, mask: torch.Tensor | None, past: KeyValue | None = None
    ) -> tuple[torch.Tensor, KeyValue]:
        """Attends from x (B,L,W) to `past`, followed by states (B,S,key_width).

        Args:
            x: The tokens that attend.
            states: The tokens that are attended to.
            mask: bool (B,1,1 or L, past + S), True where attention is allowed. None allows all.
            past: Keys and values of an earlier pass.

        Returns:
            The output (B,L,W), and the keys and values that were attended to, including `past`.
        """
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(x), self.key(states), self.value(states))
        )
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        dropout = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        out = self.output(attended.transpose(1, 2).flatten(2))
        return self.norm(x + self.dropout(out)), (key, value)


class QFormerFeedForward(nn.Module):
    """Two linear layers followed by BERT's residual connection and normalisation."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.up = nn.Linear(config.width, config.ffn_width)
        self.down = nn.Linear(config.ffn_width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.dropout(self.down(F.gelu(self.up(x)))))


class QFormerBlock(nn.Module):
    """One layer. Queries and text share self-attention and have a feed-forward layer each. Only queries have
    cross-attention to the encoder tokens."""

    def __init__(self, config: QFormerConfig, has_cross_attention: bool):
        super().__init__()
        self.self_attention = QFormerAttention(config, config.width)
        self.cross_attention = QFormerAttention(config, config.encoder_width) if has_cross_attention else None
        self.query_ffn = QFormerFeedForward(config)
        self.text_ffn = None if config.vocab_size is None else QFormerFeedForward(config)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        queries: int,
        past: KeyValue | None,
    ) -> tuple[torch.Tensor, KeyValue]:
        """Runs the layer on x (B, queries + L, W), whose first `queries` tokens are queries and whose rest is text."""
        x, cache = self.self_attention(x, x, mask, past)
        query, text = x[:, :queries], x[:, queries:]
        parts = []
        if queries:
            if self.cross_attention is not None:
                query, _ = self.cross_attention(query, encoder_hidden_states, encoder_attention_mask)
            parts.append(self.query_ffn(query))
        if self.text_ffn is not None and text.shape[1]:
            parts.append(self.text_ffn(text))
        return torch.cat(parts, 1), cache


class QFormer(nn.Module):
    """BERT with learned query tokens that attend to the tokens of an encoder (LAVIS `blip2_models/Qformer.py`)."""

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
            QFormerBlock(config, has_cross_attention=i % config.cross_attention_every == 0)
            for i in range(config.layers)
        )
        self.apply(init_weights)
        nn.init.trunc_normal_(self.query_tokens, std=0.02)

    def forward(
        self,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        ids: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        past: tuple[KeyValue, ...] | None = None,
        queries: torch.Tensor | None = None,
        prefix: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """Returns hidden states, and the keys and values of self-attention of each layer.

        The arguments that are given decide which of four passes runs:

        - encoder_hidden_states: the queries alone; (B,Q,W).
        - ids, text_mask: the text alone, with attention in both directions; (B,L,W).
        - encoder_hidden_states, ids, text_mask: queries and text together, each attending to the other; (B,Q+L,W).
        - ids, text_mask, past: the text, each token attending to those before it and to the queries of an earlier pass
          of the queries alone, whose cache is `past`; (B,L,W).

        encoder_hidden_states (B,S,M); encoder_attention_mask (B,S) bool, None if no token is padding; ids (B,L) int64;
        text_mask (B,L) bool, False at padding. queries (1,Q',W): query tokens to use instead of `query_tokens`. prefix
        (B,): with `past`, how many tokens of each text all of its tokens attend to; None is 0.
        """
        parts = []
        if encoder_hidden_states is not None:
            rows = len(encoder_hidden_states)
            parts.append((self.query_tokens if queries is None else queries).expand(rows, -1, -1))
        count = parts[0].shape[1] if parts else 0
        if ids is not None:
            positions = torch.arange(ids.shape[1], device=ids.device)
            parts.append(self.word_embedding(ids) + self.position_embedding(positions))
        x = self.dropout(self.norm(torch.cat(parts, 1)))
        mask = self._attention_mask(text_mask, count, past, prefix)
        if encoder_attention_mask is not None:
            encoder_attention_mask = encoder_attention_mask[:, None, None]
        cache = []
        for i, block in enumerate(self.blocks):
            past_of_block = None if past is None else past[i]
            x, keys_values = block(x, mask, encoder_hidden_states, encoder_attention_mask, count, past_of_block)
            cache.append(keys_values)
        return x, tuple(cache)

    def _attention_mask(
        self,
        text_mask: torch.Tensor | None,
        queries: int,
        past: tuple[KeyValue, ...] | None,
        prefix: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """Returns the mask of self-attention, (B, 1, 1 or L, queries + L), or None if there is no text."""
        if text_mask is None:
            return None
        before = queries if past is None else past[0][0].shape[2]
        mask = F.pad(text_mask, (before, 0), value=True)[:, None, None]  # queries are never padding
        if past is None:
            return mask
        # Only the pass that generates text is causal; its queries all come before the text.
        length = text_mask.shape[1]
        allowed = torch.ones(length, before + length, dtype=torch.bool, device=mask.device).tril(before)
        if prefix is not None:
            columns = torch.arange(before + length, device=mask.device)
            allowed = allowed | (columns < before + prefix[:, None])[:, None, None]
        return mask & allowed


# Periods in seconds. The shortest tells apart neighbouring frames at 8 frames a second; within the longest, 17 minutes,
# no two times of one segment look alike.
SHORTEST_S, LONGEST_S, WAVES = 0.25, 1024.0, 32


def time_features(times_s: torch.Tensor) -> torch.Tensor:
    """Returns sines and cosines of times in seconds: (...) becomes (..., 2 * WAVES).

    The periods are in geometric progression. These are the position encodings of Vaswani et al. 2017 with seconds in
    place of indices, so that they serve any frame rate.
    """
    steps = torch.linspace(0, 1, WAVES, device=times_s.device)
    periods = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** steps
    phase = 2 * math.pi * times_s.float()[..., None] / periods
    return torch.cat((phase.sin(), phase.cos()), -1)


class TemporalQFormer(TemporalModule):
    """Queries that attend to all tokens of all frames of a segment at once.

    Each token carries its time in seconds and its position in the frame. Unlike Video-LLaMA's frame indices, times
    serve any frame rate and any number of frames.

    Args:
        config: The sizes.
        token_dim: D, the width of frame tokens.
        out_dim: H, the width of the output.
        tokens_per_frame: N, if the encoder fixes it. Each position in the frame then has a learned embedding, and
            frames with another N raise ConfigError. None accepts any N and has no embedding of positions.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.norm = nn.LayerNorm(token_dim)
        self.project = nn.Linear(token_dim, config.width)
        self.time = nn.Linear(2 * WAVES, config.width)
        shape = None if tokens_per_frame is None else (tokens_per_frame, config.width)
        self.spatial_pos_embed = None if shape is None else nn.Parameter(torch.empty(shape))
        self.output = nn.Linear(config.width, out_dim)
        self.apply(init_weights)
        self.qformer = QFormer(
            QFormerConfig(
                queries=config.queries,
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                ffn_width=round(config.mlp_ratio * config.width),
                encoder_width=config.width,
                cross_attention_every=config.cross_attention_every,
                dropout=config.dropout,
            )
        )
        # BERT's standard deviation of 0.02 gives unit scale at its own width only. At the widths used here the output
        # of the queries would differ between videos by a thirtieth of its size, and hundreds of steps would pass
        # before anything is learnt; 1 / sqrt(inputs) gives unit scale at every width.
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and layer is not self.output:
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
        if self.spatial_pos_embed is not None:
            nn.init.trunc_normal_(self.spatial_pos_embed, std=0.5)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n = tokens.shape[2]
        hidden, _ = self.qformer(self.encoder_hidden_states(tokens, elapsed_s), mask.repeat_interleave(n, dim=1))
        return self.output(hidden)

    def encoder_hidden_states(self, tokens: torch.Tensor, elapsed_s: torch.Tensor) -> torch.Tensor:
        """Returns what the queries attend to: tokens (B,T,N,D) with their times and positions, as (B,T*N,W)."""
        n = tokens.shape[2]
        if self.spatial_pos_embed is not None and n != len(self.spatial_pos_embed):
            expected = len(self.spatial_pos_embed)
            raise ConfigError(f"frames have {n} tokens each, but the temporal module was built for {expected}")
        states = self.project(self.norm(tokens))
        states = states + self.time(time_features(elapsed_s).to(self.time.weight.dtype))[:, :, None]
        if self.spatial_pos_embed is not None:
            states = states + self.spatial_pos_embed
        return states.flatten(1, 2)
