"""The contract of temporal modules: the frame tokens of one segment become a fixed number of query tokens.

Shapes: B segments, T frames, N tokens a frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn


class TemporalModule(nn.Module):
    """Turns frame tokens (B,T,N,D) into query tokens (B,Q,H). Frames whose mask is False never change the result."""

    def __init__(self, queries: int):
        super().__init__()
        self.queries = queries

    def forward(self, tokens: torch.Tensor, times_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """tokens (B,T,N,D), any T and N; times_s (B,T), absolute, in seconds; mask (B,T) bool, True at real frames,
        of which each row has at least one. Returns (B,Q,H)."""
        return self.compress(*clean(tokens, times_s, mask), mask)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`forward` with times since each row's first real frame (B,T) float32, and with zeros at padding."""
        raise NotImplementedError


def clean(tokens: torch.Tensor, times_s: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `TemporalModule.forward` takes, with zeros at padding and times since each row's first real frame, float32:
    padding may hold anything, even NaN, which a weight of zero would not remove."""
    start_s = times_s.masked_fill(~mask, float("inf")).amin(1, keepdim=True)
    elapsed_s = (times_s - start_s).masked_fill(~mask, 0).float()
    return tokens.masked_fill(~mask[..., None, None], 0), elapsed_s


def init_weights(module: nn.Module) -> None:
    """Truncated normal of 0.02 and zero biases, as BERT; for `nn.Module.apply`."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
