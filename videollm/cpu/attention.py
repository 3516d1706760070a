"""Attention on a CPU, for the two cases in which F.scaled_dot_product_attention is slow there.

Shapes: B rows, L queries, S keys.
"""

import torch
import torch.nn.functional as F

SHORT = 128  # keys; with 200 both ways take about as long, and with 400 PyTorch's is four times as fast


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool
) -> torch.Tensor:
    """Computes F.scaled_dot_product_attention (B, heads, L, width) as two matrix products and a softmax, for training.

    On a CPU in bfloat16, the backward pass of PyTorch's own attention takes six times as long for the 65 tokens of a
    small picture (90 against 15 ms for 256 pictures and two heads of width 64).
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    if is_causal:
        scores = scores.masked_fill(scores.new_ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1, torch.float32).to(value.dtype) @ value


def pays_written_out(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Returns whether `short_attention` is faster for a query and a key (B, heads, tokens, width)."""
    on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return on_cpu and query.requires_grad and key.shape[2] <= SHORT


def attend_cached(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Computes the grouped-query attention of the new tokens of one conversation.

    Args:
        query: (L, query heads, width), the last L of the S positions of the conversation.
        keys, values: (1, heads, S, width).
        mask: (L,S), added to the scores. None lets every query see all keys up to its own position, and requires that L
            is 1 or S.
        scale: The factor of the scores.

    Returns:
        (L, query heads * width).
    """
    if len(query) == 1:
        # Query heads that share a key are treated as positions, each of which sees all keys. This gives one product
        # per group instead of one per head.
        grouped = query.view(1, keys.shape[1], -1, query.shape[-1])
        return F.scaled_dot_product_attention(grouped, keys, values, scale=scale).view(1, -1)
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None], keys, values, mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return mixed[0].transpose(0, 1).flatten(1)
