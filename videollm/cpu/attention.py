"""Attention on a CPU, written for the two cases in which F.scaled_dot_product_attention is slow there.

Shapes: B rows, L queries, S keys.
"""

import torch
import torch.nn.functional as F

SHORT = 128  # keys; at 200 both ways take about as long, at 400 PyTorch's is four times faster


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool
) -> torch.Tensor:
    """F.scaled_dot_product_attention (B, heads, L, width) as two matrix products and a softmax, for training.

    The backward pass of PyTorch's own takes six times this on a CPU in bfloat16, for the 65 tokens of a small picture
    (90 against 15 ms for 256 pictures and two heads of width 64).
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    if is_causal:
        scores = scores.masked_fill(scores.new_ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1, torch.float32).to(value.dtype) @ value


def pays_written_out(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether `short_attention` is the faster one for query and key (B, heads, tokens, width)."""
    on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return on_cpu and query.requires_grad and key.shape[2] <= SHORT


def attend_cached(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Grouped-query attention of one conversation's new tokens.

    query (L, query heads, width) are the last L of the S positions whose keys and values (1, heads, S, width) are
    given. mask (L, S) is added to the scores; None means that every query sees all keys up to its own position, which
    is only right where L is 1 or L equals S. Returns (L, query heads * width).
    """
    if len(query) == 1:
        # The query heads that share a key are treated as that many positions, each of which sees all keys: one
        # product for the group in place of one for each head.
        grouped = query.view(1, keys.shape[1], -1, query.shape[-1])
        return F.scaled_dot_product_attention(grouped, keys, values, scale=scale).view(1, -1)
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None], keys, values, mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return mixed[0].transpose(0, 1).flatten(1)
